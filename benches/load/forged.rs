//! A flood of distinct forged tokens: each names a known key and the right claims, and no two have the same signature, so
//! that each costs the server a verification and a place among the refused. Good callers go on asking meanwhile.
//!
//! The first stretch of the flood comes at a rate that leaves both CPUs room, in turns with the same number of requests a
//! second that bring forged tokens which are refused already: what the good callers notice of the flood is told from these.
//! The rest comes as fast as it is answered.

use std::cell::Cell;
use std::rc::Rc;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use prost::bytes::Bytes;
use serde_json::json;
use tokio::task::{JoinHandle, LocalSet, spawn_local};

use crate::client::{self, Client, allows, runtime};
use crate::fixture::{Key, Result};
use crate::server::Cardea;
use crate::steady::{Call, as_usize, at_rate, micros};
use crate::{figure, median, note};

const TOKENS: u64 = 1_000_000;
/// Connections, and calls in flight on each, of what comes as fast as it is answered.
const CONNECTIONS: usize = 4;
const STREAMS: usize = 32;
/// Good callers, whose tokens are remembered before the flood.
const CALLERS: usize = 500;
/// Good calls a second, throughout.
const GOOD_RATE: u32 = 1_000;
/// Bad calls for each good one, in turns.
const BAD: u32 = 4;
/// Turns of each kind, and how long one goes on.
const ROUNDS: usize = 5;
const SECONDS: u32 = 2;
/// How many forged tokens take turns where they are refused already.
const REFUSED: u64 = 64;

/// `flood_good_p99_ratio`, `flood_good_hit_rate` and `forged_1m_rss_growth_mib`: how much later the good are answered,
/// whether they are still remembered, and how much memory the flood leaves behind.
pub(crate) fn flood() -> Result<()> {
    // Nothing good runs out by itself meanwhile: what is forgotten, the flood pushed out.
    let cardea = Cardea::with(|settings| settings["identity"]["cache"]["ttl"] = json!("1h"))?;
    let good: Vec<Bytes> = cardea
        .warm_checks(CALLERS)?
        .into_iter()
        .map(Bytes::from)
        .collect();
    let crowd = Crowd {
        forge: Rc::new(Forge::new(&cardea)?),
        next: Rc::new(Cell::new(0)),
        cardea: &cardea,
        good: &good,
    };
    LocalSet::new().block_on(&runtime()?, crowd.come())?;
    for message in good.iter().take(8) {
        client::assert_allows(&cardea.target, message)?;
    }
    Ok(())
}

/// Who asks.
struct Crowd<'a> {
    cardea: &'a Cardea,
    good: &'a [Bytes],
    forge: Rc<Forge>,
    /// The number of the next forged token.
    next: Rc<Cell<u64>>,
}

impl Crowd<'_> {
    async fn come(&self) -> Result<()> {
        let client = Client::connect(&self.cardea.target).await?;
        let alone = at_rate(GOOD_RATE, self.good_calls(&client).take(good_calls())).await?;
        let before = self.cardea.process.rss_mib()?;
        let mut flood = Counts::default();
        let mut p99s: [Vec<f64>; 2] = Default::default();
        for _ in 0..ROUNDS {
            p99s[0].push(self.refused_turn(&client).await?);
            p99s[1].push(self.forged_turn(&client, &mut flood).await?);
        }
        let saturated = self.rest(&client, &mut flood).await?;
        let after = self.cardea.process.rss_mib()?;
        flood.check()?;
        note(&format!(
            "{TOKENS} forged tokens: {before:.1} MiB before, {after:.1} MiB after"
        ));
        figure("forged_1m_rss_growth_mib", after - before, "MiB");
        let ratios = p99s[1].iter().zip(&p99s[0]).map(|(new, old)| new / old);
        figure("flood_good_p99_ratio", median(ratios.collect()), "ratio");
        let [old, new] = p99s.map(median);
        note(&format!(
            "p99 of {GOOD_RATE} good requests/s: {:.0} us alone; beside {}/s with a forged token {old:.0} us where it is \
             refused already, {new:.0} us where it is new; {saturated:.0} us beside as many as are answered",
            micros(&alone, 0.99),
            GOOD_RATE * BAD,
        ));
        let [hits, good] =
            [flood.hits, flood.good].map(|count| u32::try_from(count).map(f64::from));
        figure("flood_good_hit_rate", hits? / good?, "ratio");
        Ok(())
    }

    /// Calls of the good, in turn, without end.
    fn good_calls(&self, client: &Client) -> impl Iterator<Item = Result<Call>> {
        let turns = self.good.iter().cycle();
        turns.map(|message| {
            Ok(Call {
                client: client.clone(),
                message: message.clone(),
                good: true,
            })
        })
    }

    /// The p99 of the good for one turn, each of them with so many bad calls behind it.
    async fn mixed_turn(&self, client: &Client, bad: impl Fn() -> u64) -> Result<f64> {
        let calls = self.good_calls(client).take(good_calls());
        let calls = calls.flat_map(|good| {
            let bad = (0..BAD).map(|_| {
                Ok(Call {
                    client: client.clone(),
                    message: self.forge.message(bad())?,
                    good: false,
                })
            });
            std::iter::once(good).chain(bad)
        });
        let times = at_rate(GOOD_RATE * (1 + BAD), calls).await?;
        Ok(micros(&times, 0.99))
    }

    /// A turn in which the bad calls bring what was refused before.
    async fn refused_turn(&self, client: &Client) -> Result<f64> {
        let before = Counts::of(self.cardea)?;
        let next = Cell::new(0);
        let p99 = self
            .mixed_turn(client, || TOKENS + next.replace(next.get() + 1) % REFUSED)
            .await?;
        // Refusals are remembered for ten seconds, so each may have been verified again.
        let verified = Counts::of(self.cardea)?.since(before).verifications;
        if verified > 2 * REFUSED {
            return Err(format!("{verified} tokens were verified that were refused before").into());
        }
        Ok(p99)
    }

    /// A turn in which each bad call brings a forged token of its own.
    async fn forged_turn(&self, client: &Client, flood: &mut Counts) -> Result<f64> {
        let before = Counts::of(self.cardea)?;
        let p99 = self.mixed_turn(client, || self.next_number()).await?;
        flood.add(Counts::of(self.cardea)?.since(before));
        Ok(p99)
    }

    /// What is left of the million, as fast as it is answered. The p99 of the good beside it.
    async fn rest(&self, client: &Client, flood: &mut Counts) -> Result<f64> {
        let before = Counts::of(self.cardea)?;
        let flooding = self.flooding().await?;
        let goes_on = |_: &Result<Call>| self.next.get() < TOKENS;
        let times = at_rate(GOOD_RATE, self.good_calls(client).take_while(goes_on)).await?;
        for caller in flooding {
            caller.await??;
        }
        flood.add(Counts::of(self.cardea)?.since(before));
        Ok(micros(&times, 0.99))
    }

    async fn flooding(&self) -> Result<Vec<JoinHandle<Result<()>>>> {
        let mut callers = Vec::new();
        for _ in 0..CONNECTIONS {
            let client = Client::connect(&self.cardea.target).await?;
            for _ in 0..STREAMS {
                let (client, forge) = (client.clone(), Rc::clone(&self.forge));
                let next = Rc::clone(&self.next);
                callers.push(spawn_local(async move {
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
        Ok(callers)
    }

    fn next_number(&self) -> u64 {
        self.next.replace(self.next.get() + 1)
    }
}

/// How many calls of the good one turn has.
fn good_calls() -> usize {
    as_usize(GOOD_RATE * SECONDS)
}

/// What the server counted.
#[derive(Debug, Default, Clone, Copy)]
struct Counts {
    /// Good requests: those that were allowed.
    good: u64,
    /// Those of them whose token was remembered.
    hits: u64,
    verifications: u64,
    /// Tokens that were refused for their signature, verified again or not.
    forged: u64,
}

impl Counts {
    fn of(cardea: &Cardea) -> Result<Self> {
        Ok(Self {
            good: cardea.allowed()?,
            hits: cardea.counted("cardea_token_cache_lookups_total", "result=\"hit\"")?,
            verifications: cardea.verifications()?,
            forged: cardea.counted("cardea_credential_faults_total", "fault=\"signature\"")?,
        })
    }

    fn since(self, before: Self) -> Self {
        Self {
            good: self.good - before.good,
            hits: self.hits - before.hits,
            verifications: self.verifications - before.verifications,
            forged: self.forged - before.forged,
        }
    }

    fn add(&mut self, more: Self) {
        self.good += more.good;
        self.hits += more.hits;
        self.verifications += more.verifications;
        self.forged += more.forged;
    }

    /// Whether this was the flood that was meant.
    fn check(&self) -> Result<()> {
        if self.forged == TOKENS && self.verifications >= TOKENS {
            Ok(())
        } else {
            Err(format!("not every forged token cost a verification: {self:?}").into())
        }
    }
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
