use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::*;
use crate::model::{Period, SystemClock};

const PERMIT: &str = "permit (principal, action, resource);";
const SCHEMA: &str = include_str!("../../../policies/schema/cardea.cedarschema");

fn bundle(policy: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("s.cedarschema"), SCHEMA).unwrap();
    fs::write(folder.path().join("p.cedar"), policy).unwrap();
    folder
}

fn snapshots(folder: &Path) -> Arc<Snapshots> {
    let settings = BundleSettings {
        path: folder.to_path_buf(),
        poll: Period::millis(50),
        ..BundleSettings::default()
    };
    let staging = Arc::new(crate::pipeline::trial::staging());
    Arc::new(Snapshots::new(settings, Arc::new(SystemClock), staging).unwrap())
}

/// Waits until `done` says so; the limit is for a broken build only.
async fn eventually(what: &str, done: impl Fn() -> bool) {
    for _ in 0..600 {
        if done() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("never happened: {what}");
}

#[test]
fn nothing_is_in_force_before_a_bundle_loads_and_a_bad_one_never_is() {
    let folder = bundle("permit (");
    let snapshots = snapshots(folder.path());
    assert!(snapshots.current().is_none());
    let problems = snapshots.load().unwrap_err();
    assert!(
        problems[0].to_string().contains("p.cedar:1:"),
        "{}",
        problems[0]
    );
    assert!(snapshots.current().is_none() && snapshots.stale());
    assert_eq!((snapshots.failures(), snapshots.refused()), (1, problems));
}

#[tokio::test]
async fn r1_r2_a_good_change_takes_over_and_a_bad_one_leaves_the_last_good_in_force() {
    let folder = bundle(PERMIT);
    let policy = folder.path().join("p.cedar");
    let snapshots = snapshots(folder.path());
    let first = snapshots.load().unwrap().id.clone();
    let closing = CancellationToken::new();
    let keeper = tokio::spawn(Arc::clone(&snapshots).keep_fresh(closing.clone()));
    let live = || snapshots.current().unwrap().id.clone();

    fs::write(&policy, format!("{PERMIT}\n// changed")).unwrap();
    eventually("the change is in force", || live() != first).await;
    let second = live();

    fs::write(&policy, "permit (").unwrap();
    eventually("the broken change is refused", || snapshots.stale()).await;
    assert_eq!(live(), second);

    fs::remove_file(&policy).unwrap();
    eventually("the empty bundle is refused", || {
        snapshots
            .refused()
            .iter()
            .any(|problem| problem.message.contains("holds no policy"))
    })
    .await;
    assert_eq!(live(), second);

    fs::write(&policy, PERMIT).unwrap();
    eventually("the first bundle is back", || {
        live() == first && !snapshots.stale()
    })
    .await;
    closing.cancel();
    keeper.await.unwrap();
}

#[tokio::test]
async fn r1_a_change_between_the_first_load_and_the_first_look_is_seen() {
    let folder = bundle(PERMIT);
    let snapshots = snapshots(folder.path());
    let first = snapshots.load().unwrap().id.clone();
    fs::write(
        folder.path().join("p.cedar"),
        "forbid (principal, action, resource);",
    )
    .unwrap();
    let closing = CancellationToken::new();
    let keeper = tokio::spawn(Arc::clone(&snapshots).keep_fresh(closing.clone()));
    eventually("the change is in force", || {
        snapshots.current().unwrap().id != first
    })
    .await;
    closing.cancel();
    keeper.await.unwrap();
}

#[tokio::test]
async fn r1_a_bundle_that_never_holds_still_is_read_all_the_same() {
    let folder = bundle(PERMIT);
    let mut settings = snapshots(folder.path()).settings.clone();
    settings.reread = Period::millis(200);
    let snapshots = Arc::new(
        Snapshots::new(
            settings,
            Arc::new(SystemClock),
            Arc::new(crate::pipeline::trial::staging()),
        )
        .unwrap(),
    );
    let first = snapshots.load().unwrap().id.clone();
    let closing = CancellationToken::new();
    let keeper = tokio::spawn(Arc::clone(&snapshots).keep_fresh(closing.clone()));
    // Another size at each look, so that no two looks are alike.
    let mut policy = "forbid (principal, action, resource);".to_owned();
    for _ in 0..600 {
        policy.push(' ');
        fs::write(folder.path().join("p.cedar"), &policy).unwrap();
        tokio::time::sleep(Duration::from_millis(10)).await;
        if snapshots.current().unwrap().id != first {
            closing.cancel();
            return keeper.await.unwrap();
        }
    }
    panic!("the change never took effect");
}

#[tokio::test]
async fn r1_a_link_swap_as_kubernetes_makes_it_is_seen() {
    use std::os::unix::fs::symlink;
    let folder = tempfile::tempdir().unwrap();
    for (version, policy) in [
        ("..1", PERMIT),
        ("..2", "forbid (principal, action, resource);"),
    ] {
        let version = folder.path().join(version);
        fs::create_dir(&version).unwrap();
        fs::write(version.join("s.cedarschema"), SCHEMA).unwrap();
        fs::write(version.join("p.cedar"), policy).unwrap();
    }
    symlink("..1", folder.path().join("..data")).unwrap();
    for name in ["s.cedarschema", "p.cedar"] {
        symlink(format!("..data/{name}"), folder.path().join(name)).unwrap();
    }
    let snapshots = snapshots(folder.path());
    let first = snapshots.load().unwrap().id.clone();
    let closing = CancellationToken::new();
    let keeper = tokio::spawn(Arc::clone(&snapshots).keep_fresh(closing.clone()));
    symlink("..2", folder.path().join("..data_tmp")).unwrap();
    fs::rename(
        folder.path().join("..data_tmp"),
        folder.path().join("..data"),
    )
    .unwrap();
    eventually("the swapped bundle is in force", || {
        snapshots.current().unwrap().id != first
    })
    .await;
    closing.cancel();
    keeper.await.unwrap();
}

#[test]
fn settings_are_held_to_sensible_bounds() {
    assert_eq!(BundleSettings::default().problems(), []);
    let settings = BundleSettings {
        path: PathBuf::new(),
        poll: Period::millis(1),
        reread: Period::millis(0),
        ..BundleSettings::default()
    };
    assert_eq!(settings.problems().len(), 3);
}

#[test]
fn r2_a_bundle_whose_own_tests_fail_is_refused_and_the_old_one_stays() {
    let folder = bundle(PERMIT);
    let case = |verdict: &str| {
        let case = format!(
            "- {{ name: anybody, given: {{ request: {{ path: / }} }}, expect: {{ verdict: {verdict} }} }}\n"
        );
        fs::write(folder.path().join("p.test.yaml"), case).unwrap();
    };
    case("allow");
    let snapshots = snapshots(folder.path());
    let first = snapshots.load().unwrap().id.clone();

    case("deny");
    let problems = snapshots.load().unwrap_err();
    let told = problems[0].to_string();
    assert!(
        told.contains(
            "p.test.yaml:1:1: the test `anybody` fails: verdict: expected deny, found allow"
        ),
        "{told}"
    );
    assert_eq!(snapshots.current().unwrap().id, first);
    assert!(snapshots.stale());

    fs::write(folder.path().join("p.test.yaml"), "- name: [").unwrap();
    assert!(
        snapshots.load().unwrap_err()[0]
            .to_string()
            .contains("p.test.yaml:1:")
    );
    assert_eq!(snapshots.current().unwrap().id, first);

    case("allow");
    assert_eq!(snapshots.load().unwrap().id, first);
    assert!(!snapshots.stale());
}

#[test]
fn tests_are_passed_over_only_where_the_settings_say_so() {
    let folder = bundle(PERMIT);
    fs::write(folder.path().join("p.test.yaml"), "- name: [").unwrap();
    assert!(snapshots(folder.path()).load().is_err());
    let settings = BundleSettings {
        path: folder.path().to_path_buf(),
        run_tests: false,
        ..BundleSettings::default()
    };
    let staging = crate::pipeline::trial::staging();
    let lenient = Snapshots::new(settings, Arc::new(SystemClock), Arc::new(staging)).unwrap();
    assert!(lenient.load().is_ok());
}
