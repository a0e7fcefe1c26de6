//! Memory under a flood of distinct forged tokens: each names a known key and the right claims, and no two have the same
//! signature, so that each costs the server a verification and a place among the refused.

use std::cell::Cell;
use std::rc::Rc;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use prost::bytes::Bytes;
use tokio::task::LocalSet;

use crate::client::{self, Client, allows, runtime};
use crate::fixture::{Key, Result};
use crate::server::Cardea;
use crate::{figure, note};

const TOKENS: u64 = 1_000_000;
/// Connections, and calls in flight on each.
const CONNECTIONS: usize = 4;
const STREAMS: usize = 32;
/// Good callers before the flood, so that what they cost is not counted as growth.
const CALLERS: usize = 500;

/// `forged_1m_rss_growth_mib`: how much memory the flood leaves behind.
pub(crate) fn memory() -> Result<()> {
    let cardea = Cardea::on_tcp()?;
    let messages = cardea.warm_checks(CALLERS)?;
    let before = cardea.process.rss_mib()?;
    let forge = Rc::new(Forge::new(&cardea)?);
    let counted = || cardea.counted("cardea_credential_faults_total", "fault=\"signature\"");
    let counted_before = counted()?;
    LocalSet::new().block_on(&runtime()?, flood(&cardea, &forge))?;
    let after = cardea.process.rss_mib()?;
    let verified = counted()? - counted_before;
    if verified != TOKENS {
        return Err(format!(
            "{verified} of {TOKENS} forged tokens were refused for their signature"
        )
        .into());
    }
    for message in messages.iter().take(8) {
        client::assert_allows(&cardea.target, message)?;
    }
    note(&format!(
        "{TOKENS} forged tokens: {before:.1} MiB before, {after:.1} MiB after"
    ));
    figure("forged_1m_rss_growth_mib", after - before, "MiB");
    Ok(())
}

async fn flood(cardea: &Cardea, forge: &Rc<Forge>) -> Result<()> {
    let next = Rc::new(Cell::new(0));
    let mut callers = Vec::new();
    for _ in 0..CONNECTIONS {
        let client = Client::connect(&cardea.target).await?;
        for _ in 0..STREAMS {
            let (client, forge, next) = (client.clone(), Rc::clone(forge), Rc::clone(&next));
            callers.push(tokio::task::spawn_local(async move {
                while next.get() < TOKENS {
                    let number = next.replace(next.get() + 1);
                    if allows(&client.call(forge.message(number)?).await?)? {
                        return Err("a forged token was believed".into());
                    }
                }
                Result::Ok(())
            }));
        }
    }
    for caller in callers {
        caller.await??;
    }
    Ok(())
}

/// Makes messages from one good one, by writing over its token's signature.
#[derive(Debug)]
struct Forge {
    message: Vec<u8>,
    signature: std::ops::Range<usize>,
}

impl Forge {
    fn new(cardea: &Cardea) -> Result<Self> {
        let token = cardea.world.token(Key::Rs256, "mallory")?;
        let message = client::framed(&cardea.world.check(Some(&token)));
        let (_, signature) = token.rsplit_once('.').ok_or("no signature")?;
        let at = message
            .windows(signature.len())
            .position(|window| window == signature.as_bytes())
            .ok_or("the message does not hold the token")?;
        Ok(Self {
            signature: at..at + signature.len(),
            message,
        })
    }

    /// The message with a signature of its own: numbers that look random, the same every time.
    fn message(&self, number: u64) -> Result<Bytes> {
        let mut bytes = [0; 256];
        let mut state = number;
        for chunk in bytes.chunks_exact_mut(8) {
            chunk.copy_from_slice(&mixed(&mut state).to_le_bytes());
        }
        let mut message = self.message.clone();
        let place = message.get_mut(self.signature.clone()).ok_or("no place")?;
        URL_SAFE_NO_PAD.encode_slice(bytes, place)?;
        Ok(Bytes::from(message))
    }
}

/// `SplitMix64`: well spread numbers from a counter. The first one differs wherever the counter does.
fn mixed(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
