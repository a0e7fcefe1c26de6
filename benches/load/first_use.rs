//! A thousand first uses of one token at once. What judging it needs is held back until all of them are in the server, so
//! that each has looked for a memory and found none before the first of them is judged.

use std::rc::Rc;
use std::time::Duration;

use prost::bytes::Bytes;
use serde_json::json;
use tokio::task::{JoinHandle, LocalSet, spawn_local};
use tokio::time::{sleep, timeout};

use crate::asked::Asked;
use crate::client::{Client, allows, framed, runtime};
use crate::fixture::{AUDIENCE, ISSUER, Key, Result, World};
use crate::server::Cardea;
use crate::{figure, note};

/// Connections, and calls at once on each: fewer than the 256 that a server takes.
const CONNECTIONS: u32 = 8;
const STREAMS: u32 = 125;
const USES: u64 = 1000;
/// How long the server has to have nothing left to do until all calls are taken to wait: what they found is counted with
/// the decisions only, and looked at afterwards.
const QUIET: Duration = Duration::from_millis(500);
/// What it may use of a CPU in that time all the same, in microseconds: one tick of the kernel's.
const IDLE_US: f64 = 10_000.0;
/// How long the server may take to be asked, and to have nothing left to do: less than it lets calls wait.
const PATIENCE: Duration = Duration::from_secs(8);

const KEYS: &str = "/jwks";
const INTROSPECTION: &str = "/introspect";

/// `first_use_1000_verifications` and `first_use_1000_introspections`.
pub(crate) fn thousand() -> Result<()> {
    let server = Asked::start()?;
    let cardea = start(&server)?;
    let of_jwt = cardea.world.token(Key::Es256, "first-user")?;
    let both = cardea.world.issuer.jwks(&[Key::Rs256, Key::Es256]);
    server.hold(KEYS);
    let jwt = use_at_once(&cardea, &server, (&of_jwt, KEYS), both)?;
    count("first_use_1000_verifications", jwt.verifications)?;

    let mut holder = cardea.world.claims("first-user")?;
    holder["active"] = json!(true);
    holder["token_type"] = json!("Bearer");
    let opaque = ("an-opaque-token", INTROSPECTION);
    let opaque = use_at_once(&cardea, &server, opaque, holder.to_string())?;
    count("first_use_1000_introspections", opaque.asked)?;
    note(&format!(
        "{USES} first uses at once: of a JWT {} fetches of keys, of an opaque token {} verifications",
        jwt.asked, opaque.verifications
    ));
    Ok(())
}

fn count(name: &str, value: u64) -> Result<()> {
    figure(name, f64::from(u32::try_from(value)?), "times");
    Ok(())
}

/// A Cardea whose issuer has told one key so far, and which asks about opaque tokens.
fn start(server: &Asked) -> Result<Cardea> {
    let world = Rc::new(World::new(100)?);
    server.tell(KEYS, world.issuer.jwks(&[Key::Rs256]));
    Cardea::within(&world, |settings| {
        let secret = settings["admin"]["token"].clone();
        let identity = &mut settings["identity"];
        identity["issuers"][0]["keys"] = json!({ "jwks_url": server.url(KEYS) });
        identity["introspection"] = json!([{
            "issuer": ISSUER,
            "endpoint": server.url(INTROSPECTION),
            "audiences": [AUDIENCE],
            "client": { "id": "cardea", "auth": { "client_secret_basic": secret } },
            "claims": { "roles": ["roles"], "groups": ["groups"], "tenant": "tenant" },
            "timeout": "10s",
        }]);
        identity["key_wait"] = json!("10s");
    })
}

/// What the uses of one token cost.
struct Cost {
    /// As Cardea counts them.
    verifications: u64,
    /// As the server that was asked counts them.
    asked: u64,
}

/// Uses a token that nobody has seen, and has the server answer at `path` once all wait for it.
fn use_at_once(
    cardea: &Cardea,
    server: &Asked,
    (token, path): (&str, &str),
    answer: String,
) -> Result<Cost> {
    let looked_in_vain = || cardea.counted("cardea_token_cache_lookups_total", "result=\"miss\"");
    let before = (
        looked_in_vain()?,
        cardea.verifications()?,
        server.asked(path),
    );
    let message = Bytes::from(framed(&cardea.world.check(Some(token))));
    LocalSet::new().block_on(&runtime()?, async {
        let calls = begin(cardea, &message).await?;
        timeout(PATIENCE, async {
            while server.asked(path) == before.2 {
                sleep(Duration::from_millis(1)).await;
            }
            let mut used = f64::INFINITY;
            while used > IDLE_US {
                let begun = cardea.process.cpu_us()?;
                sleep(QUIET).await;
                used = cardea.process.cpu_us()? - begun;
            }
            Result::Ok(())
        })
        .await??;
        server.tell(path, answer);
        for call in calls {
            if !call.await?? {
                return Err("a first use of a good token was denied".into());
            }
        }
        Result::Ok(())
    })?;
    let misses = looked_in_vain()? - before.0;
    if misses != USES {
        return Err(format!("of {USES} uses, {misses} were first ones").into());
    }
    Ok(Cost {
        verifications: cardea.verifications()? - before.1,
        asked: server.asked(path) - before.2,
    })
}

/// Sends all calls. Each tells whether it was allowed.
async fn begin(cardea: &Cardea, message: &Bytes) -> Result<Vec<JoinHandle<Result<bool>>>> {
    let mut calls = Vec::new();
    for _ in 0..CONNECTIONS {
        let client = Client::connect(&cardea.target).await?;
        calls.extend((0..STREAMS).map(|_| {
            let (client, message) = (client.clone(), message.clone());
            spawn_local(async move { allows(&client.call(message).await?) })
        }));
    }
    Ok(calls)
}
