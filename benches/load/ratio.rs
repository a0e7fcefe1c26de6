//! Two servers under the same saturating load, in turns, so that whatever else the machine does meets both.

use std::fs;
use std::path::Path;

use crate::client;
use crate::fixture::Result;
use crate::process::Process;
use crate::saturate::{H2Load, Load, Target, Until};
use crate::server::{AllowAll, Cardea};
use crate::{figure, median, note};

/// Rounds, each with one turn a server.
const ROUNDS: usize = 5;
/// How long one turn goes on. A number of requests rather than a time, so that CPU time can be told a request.
const TURN: Until = Until::Requests(80_000);

/// `grpc_ratio_allow_all`: requests a second, as a share of what allow-all answers.
pub(crate) fn against_allow_all() -> Result<()> {
    let cardea = Cardea::on_tcp()?;
    let allow_all = AllowAll::start()?;
    let message = cardea.one_message()?;
    client::assert_allows(&allow_all.target, &fs::read(&message)?)?;
    let mut ratios = Vec::new();
    let mut turns: [Vec<Turn>; 2] = Default::default();
    for _ in 0..ROUNDS {
        let before = cardea.allowed()?;
        let own = turn(&cardea.process, &cardea.target, &message)?;
        let answered = cardea.allowed()? - before;
        if answered < own.load.succeeded || cardea.denied()? > 0 {
            return Err("not every answer was an allow".into());
        }
        let other = turn(&allow_all.process, &allow_all.target, &message)?;
        ratios.push(own.load.per_second / other.load.per_second);
        turns[0].push(own);
        turns[1].push(other);
    }
    for (name, turns) in ["cardea", "allow-all"].into_iter().zip(&turns) {
        let rate = median(turns.iter().map(|turn| turn.load.per_second).collect());
        let cpu_us = median(turns.iter().map(|turn| turn.cpu_us).collect());
        note(&format!(
            "{name}: {rate:.0} requests/s at saturation, {cpu_us:.1} us of CPU a request"
        ));
    }
    figure("grpc_ratio_allow_all", median(ratios), "ratio");
    Ok(())
}

/// `uds_over_tcp_cpu`: CPU time a request of the server over a Unix socket, as a share of that over TCP.
pub(crate) fn unix_against_tcp() -> Result<()> {
    let servers = [Cardea::on_unix_socket()?, Cardea::on_tcp()?];
    let messages = [servers[0].one_message()?, servers[1].one_message()?];
    let mut costs: [Vec<f64>; 2] = Default::default();
    for _ in 0..ROUNDS {
        for ((server, message), costs) in servers.iter().zip(&messages).zip(&mut costs) {
            costs.push(turn(&server.process, &server.target, message)?.cpu_us);
        }
    }
    let [unix, tcp] = costs.map(median);
    note(&format!(
        "CPU of the server a request: {unix:.1} us over a Unix socket, {tcp:.1} us over TCP"
    ));
    figure("uds_over_tcp_cpu", unix / tcp, "ratio");
    Ok(())
}

struct Turn {
    load: Load,
    /// CPU time of the server a request.
    cpu_us: f64,
}

fn turn(process: &Process, target: &Target, message: &Path) -> Result<Turn> {
    let before = process.cpu_us()?;
    let load = H2Load::checks(target, message).run(TURN)?;
    let cpu = process.cpu_us()? - before;
    #[expect(clippy::cast_precision_loss, reason = "requests of one turn are few")]
    let cpu_us = cpu / load.succeeded as f64;
    Ok(Turn { load, cpu_us })
}
