//! Bundles that change while they are in use.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use cardea::config::Config;
use cardea::model::SystemClock;
use cardea::pipeline::{BundleSettings, Snapshots};
use tempfile::TempDir;

use crate::world::{Ask, World, copy, eventually, shipped_bundle, write};

/// A rule that decides what `/v1/status` is, and one that every bundle of a pair repeats.
fn generation(verdict: &str) -> [(String, String); 2] {
    let other = if verdict == "permit" {
        "forbid"
    } else {
        "permit"
    };
    let rule = format!("@id(\"{verdict}-all\") {verdict} (principal, action, resource);\n");
    // A mixture of two generations would hold two policies of one id, or none of the other's.
    let second = format!(
        "@id(\"{verdict}-again\") {verdict} (principal, action, resource);\n// not {other}\n"
    );
    [("a.cedar".to_owned(), rule), ("z.cedar".to_owned(), second)]
}

/// A folder as Kubernetes mounts a ConfigMap: flat, every file a link through `..data`, which links to the files of one
/// generation.
struct ConfigMap {
    folder: TempDir,
    generations: usize,
}

impl ConfigMap {
    fn new(files: &[(String, String)]) -> Self {
        let mut map = Self {
            folder: tempfile::tempdir().unwrap(),
            generations: 0,
        };
        let shipped = shipped_bundle();
        let schema = fs::read_to_string(shipped.path().join("schema/cardea.cedarschema")).unwrap();
        let api = fs::read_to_string(shipped.path().join("apis/orders.yaml")).unwrap();
        let fixed = [
            ("m.cedarschema".to_owned(), schema),
            ("n.openapi.yaml".to_owned(), api),
        ];
        let files = [files, &fixed[..]].concat();
        map.swap(&files);
        for (name, _) in &files {
            let link = Path::new("..data").join(name);
            symlink(link, map.path().join(name)).unwrap();
        }
        map
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Writes a new generation, with the files that are not given taken over, and swaps the link.
    fn swap(&mut self, files: &[(String, String)]) {
        self.generations += 1;
        let name = format!("..generation_{}", self.generations);
        let folder = self.path().join(&name);
        fs::create_dir(&folder).unwrap();
        let data = self.path().join("..data");
        if data.exists() {
            copy(&data, &folder);
        }
        for (name, text) in files {
            write(&folder, name, text);
        }
        let old = fs::read_link(&data).ok();
        let beside = self.path().join("..data_tmp");
        symlink(&name, &beside).unwrap();
        fs::rename(&beside, &data).unwrap();
        if let Some(old) = old {
            fs::remove_dir_all(self.path().join(old)).unwrap();
        }
    }
}

#[test]
fn r1_an_edited_policy_takes_effect() {
    let world = World::new();
    let before = world.snapshot();
    world
        .ask(Ask::get("/v1/status"))
        .assert_allowed(&["status-is-public"]);
    world.write(
        "more.cedar",
        "@id(\"closed\") forbid (principal, action, resource);",
    );
    eventually("the forbid is in force", || {
        !world.ask(Ask::get("/v1/status")).allowed()
    });
    let heard = world.ask(Ask::get("/v1/status"));
    heard.assert_refused(403, "forbidden");
    assert_eq!(heard.metadata("snapshot"), world.snapshot());
    assert_ne!(world.snapshot(), before);
    fs::remove_file(world.bundle.path().join("more.cedar")).unwrap();
    eventually("it is gone again", || {
        world.ask(Ask::get("/v1/status")).allowed()
    });
    assert_eq!(
        world.snapshot(),
        before,
        "the same files have the same digest"
    );
}

#[test]
fn r1_an_edited_api_and_edited_entities_take_effect() {
    let world = World::new();
    world.get("/v1/orders").passed();
    let path = world.bundle.path().join("apis/orders.yaml");
    let text = fs::read_to_string(&path).unwrap();
    world.write(
        "apis/orders.yaml",
        &text.replace("exposure: public", "exposure: public\n  lifecycle: retired"),
    );
    eventually("the API is retired", || !world.get("/v1/orders").allowed());
    world.get("/v1/orders").assert_refused(410, "retired");
    world.write("apis/orders.yaml", &text);
    eventually("the API is back", || world.get("/v1/orders").allowed());
    let delete = || world.ask(Ask::new("DELETE", "/v1/orders/1001").bearer(&world.key.token()));
    delete().passed();
    let orders = fs::read_to_string(world.bundle.path().join("entities/orders.json")).unwrap();
    world.write("entities/orders.json", &orders.replace("|alice", "|carol"));
    eventually("the order has another owner", || !delete().allowed());
}

#[test]
fn r1_a_link_swap_takes_effect() {
    let mut map = ConfigMap::new(&generation("permit"));
    let world = World::with(|setup| setup.settings["bundle"]["path"] = map.path().to_str().into());
    world
        .ask(Ask::get("/v1/status"))
        .assert_allowed(&["permit-again", "permit-all"]);
    map.swap(&generation("forbid"));
    eventually("the link swap is seen", || {
        !world.ask(Ask::get("/v1/status")).allowed()
    });
    world
        .ask(Ask::get("/v1/status"))
        .assert_refused(403, "forbidden");
}

/// A bundle that cannot be used is refused, and everything says so.
#[track_caller]
fn assert_refused_and_kept(world: &World, spoil: impl FnOnce(&Path), mend: impl FnOnce(&Path)) {
    let (before, failures) = (world.snapshot(), world.pipeline().snapshots.failures());
    spoil(world.bundle.path());
    eventually("the bundle is refused", || {
        world.pipeline().snapshots.failures() > failures
    });
    assert_eq!(world.snapshot(), before);
    world
        .get("/v1/orders")
        .assert_allowed(&["orders-read-by-role"]);
    assert_eq!(world.admin("/ready").0, 200);
    let metrics = world.metrics();
    let is = |name: &str, value: f64| (metrics.sum(name, &[]) - value).abs() < 0.1;
    assert!(is("cardea_bundle_stale", 1.0), "{}", metrics.0);
    assert!(is("cardea_ready", 1.0));
    assert!(metrics.0.contains(&format!("digest=\"{before}\"")));
    let refused = metrics.sum("cardea_bundle_reload_failures_total", &[]);
    assert!(
        refused > f64::from(u32::try_from(failures).unwrap()),
        "{}",
        metrics.0
    );
    mend(world.bundle.path());
    eventually("the mended bundle is in force", || {
        !world.pipeline().snapshots.stale()
    });
    assert_eq!(world.snapshot(), before);
    assert!(world.metrics().sum("cardea_bundle_stale", &[]).abs() < 0.1);
}

#[test]
fn r2_a_bundle_that_cannot_be_used_leaves_the_last_good_one() {
    let world = World::new();
    for (name, text) in [
        ("x.cedar", "permit (principal, action"),
        (
            "x.cedar",
            "permit (principal, action, resource) when { context.nonsense == 1 };",
        ),
        (
            "x.cedar",
            "@id(\"status-is-public\") permit (principal, action, resource);",
        ),
        (
            "x.cedar",
            "@on_deny(\"nonsense\") forbid (principal, action, resource);",
        ),
        ("x.cedarschema", "namespace Cardea { nonsense }"),
        ("entities/x.json", "[{]"),
        ("apis/x.yaml", "openapi: 2.0"),
        ("apis/x.yaml", "\tnonsense"),
    ] {
        assert_refused_and_kept(
            &world,
            |folder| write(folder, name, text),
            |folder| fs::remove_file(folder.join(name)).unwrap(),
        );
    }
    let not_text = b"permit \xff";
    assert_refused_and_kept(
        &world,
        |folder| fs::write(folder.join("x.cedar"), not_text).unwrap(),
        |folder| fs::remove_file(folder.join("x.cedar")).unwrap(),
    );
    let large = "// x\n".repeat(7 << 20);
    assert_refused_and_kept(
        &world,
        |folder| write(folder, "x.cedar", &large),
        |folder| fs::remove_file(folder.join("x.cedar")).unwrap(),
    );
    assert_refused_and_kept(
        &world,
        |folder| symlink("nowhere", folder.join("x.cedar")).unwrap(),
        |folder| fs::remove_file(folder.join("x.cedar")).unwrap(),
    );
}

#[test]
fn r2_an_emptied_or_vanished_folder_leaves_the_last_good_bundle() {
    let world = World::new();
    let kept = shipped_bundle();
    let empty = |folder: &Path| {
        for entry in fs::read_dir(folder).unwrap() {
            fs::remove_dir_all(entry.unwrap().path()).unwrap();
        }
    };
    assert_refused_and_kept(&world, empty, |folder| copy(kept.path(), folder));
    let vanish = |folder: &Path| fs::remove_dir_all(folder).unwrap();
    assert_refused_and_kept(&world, vanish, |folder| {
        fs::create_dir(folder).unwrap();
        copy(kept.path(), folder);
    });
}

#[test]
fn r1_a_change_between_start_and_first_look_is_not_missed() {
    // The folder is changed the moment Cardea has read it: whether that is before or after its first look, it counts.
    for _ in 0..5 {
        let world = World::new();
        world.write(
            "more.cedar",
            "@id(\"closed\") forbid (principal, action, resource);",
        );
        eventually("the forbid is in force", || {
            !world.ask(Ask::get("/v1/status")).allowed()
        });
    }
}

#[test]
fn r1_no_request_sees_half_of_a_swap() {
    const SWAPS: usize = 50;
    let mut map = ConfigMap::new(&generation("permit"));
    let world = World::with(|setup| setup.settings["bundle"]["path"] = map.path().to_str().into());
    let first = world.snapshot();
    let done = Arc::new(AtomicBool::new(false));
    let askers: Vec<_> = (0..3)
        .map(|_| {
            let (client, done) = (world.client(), Arc::clone(&done));
            world.spawn(async move {
                let mut seen = BTreeMap::new();
                while !done.load(Ordering::SeqCst) {
                    let heard = Ask::get("/v1/status").send(client.clone()).await;
                    let snapshot = heard.metadata("snapshot").to_string();
                    let answer = (heard.grpc(), heard.metadata("policies").to_string());
                    let before = seen.insert(snapshot.clone(), answer.clone());
                    assert!(
                        before.is_none_or(|before| before == answer),
                        "{snapshot} gave two answers"
                    );
                }
                seen
            })
        })
        .collect();
    let mut second = String::new();
    for swap in 1..=SWAPS {
        let verdict = if swap % 2 == 0 { "permit" } else { "forbid" };
        let before = world.snapshot();
        map.swap(&generation(verdict));
        eventually("the swap is in force", || world.snapshot() != before);
        if swap == 1 {
            second = world.snapshot();
        }
        let expected = if swap % 2 == 0 { &first } else { &second };
        assert_eq!(
            &world.snapshot(),
            expected,
            "swap {swap} led to a third bundle"
        );
    }
    done.store(true, Ordering::SeqCst);
    for asker in askers {
        let seen = world.wait(asker).unwrap();
        let text = format!("{seen:?}");
        assert!(seen.len() <= 2, "{text}");
        for (snapshot, (grpc, policies)) in seen {
            let permitted = snapshot == format!("\"{first}\"");
            assert_eq!(grpc == 0, permitted, "{text}");
            assert!(
                policies.contains(if permitted {
                    "permit-all"
                } else {
                    "forbid-all"
                }),
                "{text}"
            );
        }
    }
}

#[test]
fn r1_a_bundle_that_changes_while_it_is_read_is_never_half_read() {
    let mut map = ConfigMap::new(&generation("permit"));
    let settings = BundleSettings {
        path: map.path().to_path_buf(),
        ..BundleSettings::default()
    };
    let staging = cardea::app::staging(&Config::default(), Arc::new(SystemClock)).unwrap();
    let snapshots = Snapshots::new(settings, Arc::new(SystemClock), Arc::new(staging)).unwrap();
    let mut whole = Vec::new();
    for verdict in ["forbid", "permit"] {
        map.swap(&generation(verdict));
        whole.push(snapshots.load().unwrap().id.clone());
    }
    let done = Arc::new(AtomicBool::new(false));
    let swapping = {
        let done = Arc::clone(&done);
        std::thread::spawn(move || {
            for swap in 0..200 {
                // Longer than the grain of a file's times, which is all that tells one swap from the next and back.
                std::thread::park_timeout(Duration::from_millis(10));
                map.swap(&generation(if swap % 2 == 0 { "forbid" } else { "permit" }));
            }
            done.store(true, Ordering::SeqCst);
            map
        })
    };
    let mut loaded = 0;
    while !done.load(Ordering::SeqCst) {
        // Refused is well; a mixture is not.
        if let Ok(snapshot) = snapshots.load() {
            assert!(
                whole.contains(&snapshot.id),
                "half of one and half of another bundle is in force"
            );
            loaded += 1;
        }
    }
    assert!(loaded > 0, "it never held still for long enough");
    drop(swapping.join().unwrap());
}
