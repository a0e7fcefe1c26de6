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

/// `grpc_ratio_allow_all` and `grpc_ratio_allow_all_memo`: requests a second, as a share of what allow-all answers, where
/// policies are asked for every request and where judgements are remembered.
pub(crate) fn against_allow_all() -> Result<()> {
    let plain = Cardea::without_memory()?;
    let memo = Cardea::on_tcp()?;
    let allow_all = AllowAll::start()?;
    let messages = [plain.one_message()?, memo.one_message()?];
    client::assert_allows(&allow_all.target, &fs::read(&messages[0])?)?;
    let mut ratios: [Vec<f64>; 2] = Default::default();
    let mut turns: [Vec<Turn>; 3] = Default::default();
    for _ in 0..ROUNDS {
        let asked = allowing_turn(&plain, &messages[0], "bypass")?;
        let remembered = allowing_turn(&memo, &messages[1], "hit")?;
        let other = turn(&allow_all.process, &allow_all.target, &messages[0])?;
        ratios[0].push(asked.load.per_second / other.load.per_second);
        ratios[1].push(remembered.load.per_second / other.load.per_second);
        for (turns, turn) in turns.iter_mut().zip([asked, remembered, other]) {
            turns.push(turn);
        }
    }
    for (name, turns) in ["plain", "memo", "allow-all"].into_iter().zip(&turns) {
        let rate = median(turns.iter().map(|turn| turn.load.per_second).collect());
        let cpu_us = median(turns.iter().map(|turn| turn.cpu_us).collect());
        note(&format!(
            "{name}: {rate:.0} requests/s at saturation, {cpu_us:.1} us of CPU a request"
        ));
    }
    let [plain, memo] = ratios.map(median);
    figure("grpc_ratio_allow_all", plain, "ratio");
    figure("grpc_ratio_allow_all_memo", memo, "ratio");
    Ok(())
}

/// A turn whose every answer is an allow, judged the way it is said to be: the server's own counters are asked.
fn allowing_turn(server: &Cardea, message: &Path, way: &str) -> Result<Turn> {
    let label = format!("result=\"{way}\"");
    let looked = |server: &Cardea| server.counted("cardea_decision_cache_lookups_total", &label);
    let before = (server.allowed()?, looked(server)?);
    let turn = turn(&server.process, &server.target, message)?;
    let allowed = server.allowed()? - before.0;
    let judged_so = looked(server)? - before.1;
    if allowed < turn.load.succeeded || server.denied()? > 0 {
        return Err("not every answer was an allow".into());
    }
    if judged_so < allowed.saturating_sub(1) {
        return Err(format!("of {allowed} judgements {judged_so} were a {way}").into());
    }
    Ok(turn)
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
