use std::fs;
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::testing::{Manner, PERMIT, Publisher, Server, bundle};
use super::*;
use crate::model::{Period, SecretRef, SystemClock, yaml};
use crate::pipeline::trial::staging;
use crate::pipeline::{Snapshot, Snapshots};

const OTHER: &str = "forbid (principal, action, resource);";

fn started(settings: &BundleSettings) -> Result<Arc<Snapshots>, Vec<Problem>> {
    let snapshots = Snapshots::new(settings.clone(), Arc::new(SystemClock), Arc::new(staging()))?;
    snapshots.begin()?;
    Ok(Arc::new(snapshots))
}

fn live(snapshots: &Snapshots) -> String {
    let current = snapshots.current();
    current.map_or_else(|| "none".to_owned(), |s| s.id.as_str().to_owned())
}

/// The id of a folder with that policy, which every archive of it must have too.
fn id_of(policy: &str) -> String {
    let folder = bundle(policy);
    let files = BundleFiles::read(folder.path()).unwrap();
    files.id(folder.path()).as_str().to_owned()
}

fn refusal(snapshots: &Snapshots) -> String {
    let told: Vec<_> = snapshots.refused().iter().map(Problem::to_string).collect();
    told.join("; ")
}

/// Waits until `done` says so; the limit is for a broken build only.
async fn eventually(what: &str, done: impl Fn() -> bool) {
    for _ in 0..1200 {
        if done() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    panic!("never happened: {what}");
}

/// An archive on this machine.
struct Local {
    folder: tempfile::TempDir,
    publisher: Publisher,
}

impl Local {
    fn new() -> Self {
        Self {
            folder: tempfile::tempdir().unwrap(),
            publisher: Publisher::new(),
        }
    }

    fn settings(&self) -> BundleSettings {
        BundleSettings {
            path: self.folder.path().join("b.tar.gz"),
            poll: Period::millis(50),
            public_keys: vec![self.publisher.public_key()],
            cache_dir: Some(self.folder.path().join("cache")),
            ..BundleSettings::default()
        }
    }

    fn put(&self, (archive, signature): (Vec<u8>, Vec<u8>)) {
        let path = self.settings().path;
        fs::write(signature_path(&path), signature).unwrap();
        fs::write(path, archive).unwrap();
    }
}

/// A remote one.
struct Far {
    folder: tempfile::TempDir,
    publisher: Publisher,
    server: Server,
}

impl Far {
    async fn new() -> Self {
        Self {
            folder: tempfile::tempdir().unwrap(),
            publisher: Publisher::new(),
            server: Server::start().await,
        }
    }

    fn settings(&self) -> BundleSettings {
        BundleSettings {
            path: "no/such/folder".into(),
            public_keys: vec![self.publisher.public_key()],
            cache_dir: Some(self.folder.path().join("cache")),
            remote: Some(self.remote()),
            ..BundleSettings::default()
        }
    }

    fn remote(&self) -> RemoteSettings {
        let text = format!(r#"{{"url":"{}","poll":"100ms"}}"#, self.server.url());
        serde_json::from_str(&text).unwrap()
    }

    fn put(&self, serial: u64, policy: &str) {
        self.server.put(self.publisher.publish(serial, policy));
    }
}

struct Followed {
    snapshots: Arc<Snapshots>,
    closing: CancellationToken,
    task: tokio::task::JoinHandle<()>,
}

impl Followed {
    fn start(settings: &BundleSettings) -> Self {
        let snapshots = started(settings).unwrap();
        let closing = CancellationToken::new();
        let task = tokio::spawn(Arc::clone(&snapshots).keep_fresh(closing.clone()));
        Self {
            snapshots,
            closing,
            task,
        }
    }

    async fn until(&self, policy: &str) {
        let wanted = id_of(policy);
        let there = || live(&self.snapshots) == wanted && !self.snapshots.stale();
        eventually("the policy is in force", there).await;
    }

    async fn until_refused(&self, why: &str) {
        let told = || self.snapshots.stale() && refusal(&self.snapshots).contains(why);
        eventually(why, told).await;
    }

    async fn stop(self) {
        self.closing.cancel();
        self.task.await.unwrap();
    }
}

#[test]
fn a_local_archive_is_the_same_bundle_as_its_folder() {
    let local = Local::new();
    local.put(local.publisher.publish(1, PERMIT));
    let snapshots = started(&local.settings()).unwrap();
    assert_eq!(live(&snapshots), id_of(PERMIT));
    let looked = Snapshot::of(&local.settings(), &SystemClock, None).unwrap();
    assert_eq!(looked.unwrap().id.as_str(), id_of(PERMIT));
}

#[test]
fn at_start_without_a_last_good_one_a_bad_archive_is_an_error() {
    let local = Local::new();
    let stranger = Publisher::new();
    let (archive, signature) = local.publisher.publish(1, PERMIT);
    let cut = archive[..archive.len() - 9].to_vec();
    for (archive, signature, why) in [
        (archive.clone(), Vec::new(), "not in the form"),
        (cut, signature.clone(), "not over this archive"),
        (archive.clone(), b"x".repeat(2000), "longer than 1024"),
        (archive, stranger.publish(1, PERMIT).1, "not trusted"),
    ] {
        local.put((archive, signature));
        let problems = started(&local.settings()).unwrap_err();
        assert!(problems[0].to_string().contains(why), "{problems:?}");
    }
    fs::remove_file(signature_path(&local.settings().path)).unwrap();
    let problems = started(&local.settings()).unwrap_err();
    assert!(
        problems[0]
            .to_string()
            .contains("b.tar.gz.sig: cannot read"),
        "{problems:?}"
    );
    assert!(!local.folder.path().join("cache").exists());
}

#[test]
fn after_a_restart_the_last_good_one_is_served_in_place_of_a_bad_one() {
    let local = Local::new();
    local.put(local.publisher.publish(7, PERMIT));
    drop(started(&local.settings()).unwrap());
    for (bad, why) in [
        (Publisher::new().publish(8, OTHER), "not trusted"),
        (
            local.publisher.publish(6, OTHER),
            "serial 6 is older than 7",
        ),
        (local.publisher.publish(7, OTHER), "serial 7 was in force"),
        (local.publisher.publish(8, "permit ("), "p.cedar:1:"),
    ] {
        local.put(bad);
        let snapshots = started(&local.settings()).unwrap();
        assert_eq!(live(&snapshots), id_of(PERMIT));
        assert!(
            snapshots.stale() && refusal(&snapshots).contains(why),
            "{}",
            refusal(&snapshots)
        );
    }
}

#[test]
fn an_older_archive_is_taken_only_when_told() {
    let local = Local::new();
    local.put(local.publisher.publish(7, PERMIT));
    drop(started(&local.settings()).unwrap());
    local.put(local.publisher.publish(3, OTHER));
    let told = BundleSettings {
        allow_rollback: true,
        ..local.settings()
    };
    assert_eq!(live(&started(&told).unwrap()), id_of(OTHER));
    // From then on the older one is what others are measured by.
    let snapshots = started(&local.settings()).unwrap();
    assert_eq!((live(&snapshots), snapshots.stale()), (id_of(OTHER), false));
    local.put(local.publisher.publish(4, PERMIT));
    assert_eq!(live(&started(&local.settings()).unwrap()), id_of(PERMIT));
}

#[test]
fn the_serial_is_measured_without_a_cache_too_while_running() {
    let local = Local::new();
    let settings = BundleSettings {
        cache_dir: None,
        ..local.settings()
    };
    local.put(local.publisher.publish(7, PERMIT));
    let snapshots = started(&settings).unwrap();
    local.put(local.publisher.publish(6, OTHER));
    assert!(snapshots.load().is_err());
    assert_eq!(live(&snapshots), id_of(PERMIT));
    local.put(local.publisher.publish(8, OTHER));
    snapshots.load().unwrap();
    assert_eq!(live(&snapshots), id_of(OTHER));
}

#[test]
fn a_kept_archive_that_was_tampered_with_is_not_served() {
    let local = Local::new();
    local.put(local.publisher.publish(7, PERMIT));
    drop(started(&local.settings()).unwrap());
    let kept = local.folder.path().join("cache/last-good.bundle");
    let good = read_file(&kept, MAX_PACKED).unwrap();
    fs::remove_file(&local.settings().path).unwrap();
    assert_eq!(live(&started(&local.settings()).unwrap()), id_of(PERMIT));
    let mut turned = good.clone();
    *turned.last_mut().unwrap() ^= 1;
    for bad in [turned, good[..good.len() / 2].to_vec(), Vec::new()] {
        fs::write(&kept, bad).unwrap();
        assert!(started(&local.settings()).is_err());
    }
    // Nor one whose key is trusted no longer.
    fs::write(&kept, good).unwrap();
    let settings = BundleSettings {
        public_keys: vec![Publisher::new().public_key()],
        ..local.settings()
    };
    assert!(started(&settings).is_err());
}

#[test]
fn an_archive_that_cannot_be_kept_is_in_force_all_the_same_and_kept_later() {
    let local = Local::new();
    let cache = local.folder.path().join("cache");
    // A file where the folder should be.
    fs::write(&cache, "").unwrap();
    local.put(local.publisher.publish(7, PERMIT));
    let (source, last_good) = Source::of(&local.settings()).unwrap();
    let found = source.read().unwrap().unwrap();
    let id = found.files.id(&found.root);
    last_good.keep(found.seal.as_ref().unwrap(), id);
    assert!(last_good.unwritten());
    fs::remove_file(&cache).unwrap();
    last_good.write();
    assert!(!last_good.unwritten());
    let (_, again) = Source::of(&local.settings()).unwrap();
    let kept = again.read(source.keys().unwrap()).unwrap().unwrap();
    assert_eq!(kept.seal.map(|seal| seal.serial), Some(7));
}

#[tokio::test]
async fn a_changed_local_archive_takes_over_and_a_bad_one_does_not() {
    let local = Local::new();
    local.put(local.publisher.publish(1, PERMIT));
    let followed = Followed::start(&local.settings());
    // Give the watcher its first look.
    tokio::time::sleep(Duration::from_millis(200)).await;
    local.put(local.publisher.publish(2, OTHER));
    followed.until(OTHER).await;
    local.put(local.publisher.publish(1, PERMIT));
    followed.until_refused("serial 1 is older than 2").await;
    assert_eq!(live(&followed.snapshots), id_of(OTHER));
    followed.stop().await;
}

#[tokio::test]
async fn a_remote_bundle_is_fetched_once_and_then_asked_for_with_its_etag() {
    let far = Far::new().await;
    far.put(1, PERMIT);
    let followed = Followed::start(&far.settings());
    assert_eq!(live(&followed.snapshots), "none");
    assert!(!*followed.snapshots.loaded().borrow());
    followed.until(PERMIT).await;
    assert!(*followed.snapshots.loaded().borrow());
    let server = &far.server;
    eventually("304s", || server.count("/b.tar.gz.sig", 304) >= 3).await;
    assert_eq!(server.count("/b.tar.gz.sig", 200), 1);
    assert_eq!(server.count("/b.tar.gz", 200), 1);

    far.put(2, OTHER);
    followed.until(OTHER).await;
    eventually("304s", || server.count("/b.tar.gz.sig", 304) >= 6).await;
    assert_eq!(server.count("/b.tar.gz.sig", 200), 2);
    assert_eq!(server.count("/b.tar.gz", 200), 2);
    assert_eq!(followed.snapshots.failures(), 0);
    followed.stop().await;
}

#[tokio::test]
async fn a_refused_remote_bundle_is_asked_for_with_its_etag_until_it_is_mended() {
    let far = Far::new().await;
    far.put(5, PERMIT);
    let followed = Followed::start(&far.settings());
    followed.until(PERMIT).await;
    let mut refused = 0;
    for (bad, why) in [
        (far.publisher.publish(6, "permit ("), "p.cedar:1:"),
        (far.publisher.publish(4, OTHER), "serial 4 is older than 5"),
        (far.publisher.publish(5, OTHER), "serial 5 was in force"),
        (Publisher::new().publish(6, OTHER), "not trusted"),
        (
            (
                far.publisher.publish(6, OTHER).0,
                far.publisher.publish(7, OTHER).1,
            ),
            "not over this archive",
        ),
        ((vec![0; 100], b"hello".to_vec()), "not in the form"),
    ] {
        let before = far.server.count("/b.tar.gz", 304);
        far.server.put(bad);
        followed.until_refused(why).await;
        let asked = || far.server.count("/b.tar.gz", 304) >= before + 2;
        eventually("the refused archive is asked for with its etag", asked).await;
        assert_eq!(live(&followed.snapshots), id_of(PERMIT), "{why}");
        refused += 1;
        assert_eq!(followed.snapshots.failures(), refused, "told once: {why}");
    }
    far.put(6, OTHER);
    followed.until(OTHER).await;
    followed.stop().await;
}

#[tokio::test]
async fn a_server_that_gives_no_etag_is_not_fetched_from_in_full_each_time() {
    let far = Far::new().await;
    far.server.manner(Manner::Forgetful);
    far.put(1, PERMIT);
    let followed = Followed::start(&far.settings());
    followed.until(PERMIT).await;
    eventually("rounds", || far.server.count("/b.tar.gz.sig", 200) >= 4).await;
    assert_eq!(far.server.count("/b.tar.gz", 200), 1);
    // A refused archive is judged once, though it has to be fetched to see that it is the same.
    far.put(2, "permit (");
    followed.until_refused("p.cedar:1:").await;
    eventually("rounds", || far.server.count("/b.tar.gz", 200) >= 4).await;
    assert_eq!(followed.snapshots.failures(), 1);
    followed.stop().await;
}

#[tokio::test]
async fn a_restart_without_the_network_serves_the_last_good_one() {
    let far = Far::new().await;
    far.put(7, PERMIT);
    let followed = Followed::start(&far.settings());
    followed.until(PERMIT).await;
    followed.stop().await;

    far.server.manner(Manner::Status(503));
    let fetched = far.server.count("/b.tar.gz", 200);
    let followed = Followed::start(&far.settings());
    assert_eq!(live(&followed.snapshots), id_of(PERMIT), "at once");
    let looked = Snapshot::of(&far.settings(), &SystemClock, None).unwrap();
    assert_eq!(looked.unwrap().id.as_str(), id_of(PERMIT));
    eventually("failures", || followed.snapshots.failures() >= 2).await;

    // The network is back, and with it an old archive, then the same one, then a newer one.
    far.server.manner(Manner::Good);
    far.put(6, OTHER);
    followed.until_refused("serial 6 is older than 7").await;
    assert_eq!(live(&followed.snapshots), id_of(PERMIT));
    far.put(7, PERMIT);
    followed.until(PERMIT).await;
    far.put(8, OTHER);
    followed.until(OTHER).await;
    followed.stop().await;
    assert!(far.server.count("/b.tar.gz", 200) > fetched);
}

#[tokio::test]
async fn after_a_restart_with_the_network_nothing_is_fetched_twice() {
    let far = Far::new().await;
    far.put(7, PERMIT);
    let followed = Followed::start(&far.settings());
    followed.until(PERMIT).await;
    // In force comes before kept.
    let kept = far.folder.path().join("cache/last-good.bundle");
    eventually("kept", || kept.exists()).await;
    followed.stop().await;
    let followed = Followed::start(&far.settings());
    eventually("304", || far.server.count("/b.tar.gz.sig", 304) >= 2).await;
    assert_eq!(far.server.count("/b.tar.gz", 200), 1);
    followed.stop().await;
}

#[tokio::test]
async fn a_remote_bundle_goes_back_only_when_told() {
    let far = Far::new().await;
    far.put(7, PERMIT);
    let followed = Followed::start(&far.settings());
    followed.until(PERMIT).await;
    followed.stop().await;
    far.put(3, OTHER);
    let told = BundleSettings {
        allow_rollback: true,
        ..far.settings()
    };
    let followed = Followed::start(&told);
    followed.until(OTHER).await;
    followed.stop().await;
    let snapshots = started(&far.settings()).unwrap();
    assert_eq!(live(&snapshots), id_of(OTHER), "the older one is kept now");
}

#[tokio::test]
async fn a_server_that_misbehaves_costs_no_more_than_the_limits() {
    let far = Far::new().await;
    far.put(1, PERMIT);
    let remote = RemoteSettings {
        timeout: Period::millis(400),
        ..far.remote()
    };
    let remote = Remote::new(&remote).unwrap();
    let other = Server::start().await;
    other.put(far.publisher.publish(2, OTHER));
    for (manner, why) in [
        (Manner::Status(404), "status 404"),
        (Manner::Status(500), "status 500"),
        (Manner::Status(206), "status 206"),
        (Manner::Status(304), "status 304"),
        (Manner::Redirect(other.origin.clone()), "status 302"),
        (Manner::Endless, "longer than 1024 bytes"),
        (Manner::Stalled, "b.tar.gz.sig`"),
        (Manner::Half, "cannot be fetched"),
    ] {
        far.server.manner(manner);
        let error = remote.ask(&mut Seen::default()).await.unwrap_err();
        assert!(error.to_string().contains(why), "{why}: {error}");
    }
    assert_eq!(
        other.count("/b.tar.gz.sig", 200),
        0,
        "redirects are not followed"
    );
    far.server.manner(Manner::Good);
    far.server.put((vec![0; MAX_PACKED + 1], b"x".to_vec()));
    let error = remote.ask(&mut Seen::default()).await.unwrap_err();
    assert!(
        error.to_string().contains("is longer than 16777216 bytes"),
        "{error}"
    );
}

#[tokio::test]
async fn https_needs_a_certificate_that_is_trusted_and_takes_a_credential() {
    let folder = tempfile::tempdir().unwrap();
    let (server, ca_file) = Server::start_tls(folder.path()).await;
    let publisher = Publisher::new();
    server.put(publisher.publish(1, PERMIT));
    let token = folder.path().join("token");
    fs::write(&token, "s3cret\n").unwrap();
    let far = Far {
        folder,
        publisher,
        server,
    };
    let remote = RemoteSettings {
        ca_file: Some(ca_file),
        credential: Some(SecretRef::File(token.clone())),
        ..far.remote()
    };
    let trusting = Remote::new(&remote).unwrap();
    let mut seen = Seen::default();
    let offer = trusting.ask(&mut seen).await.unwrap().unwrap();
    assert_eq!((offer.archive, offer.signature.len()), {
        let (archive, signature) = far.publisher.publish(1, PERMIT);
        (archive, signature.trim_ascii_end().len())
    });
    let sent = far.server.credentials();
    assert_eq!(sent, vec![Some("Bearer s3cret".to_owned()); 2]);
    assert!(!format!("{trusting:?}").contains("s3cret"));

    fs::remove_file(&token).unwrap();
    let error = trusting.ask(&mut seen).await.unwrap_err();
    assert!(matches!(error, FetchError::Credential(_)), "{error}");

    let other = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let wrong = far.folder.path().join("other.pem");
    fs::write(&wrong, other.cert.pem()).unwrap();
    let remote = RemoteSettings {
        ca_file: Some(wrong),
        ..far.remote()
    };
    let wary = Remote::new(&remote).unwrap();
    let error = wary.ask(&mut Seen::default()).await.unwrap_err();
    assert!(matches!(error, FetchError::Unreachable(..)), "{error}");
}

#[test]
fn mistakes_of_settings_are_told_all_at_once() {
    let parse = |text: &str| yaml::parse::<BundleSettings>(text).unwrap();
    let told = |text: &str| -> String {
        let problems = parse(text).problems();
        problems.iter().map(|p| format!("{p}\n")).collect()
    };
    let good =
        "{ public_keys: [a.pub], cache_dir: c, remote: { url: 'https://x.example/b.tar.gz' } }";
    assert_eq!(told(good), "");
    let bad = "{ remote: { url: 'http://x.example/b', poll: 1ms, timeout: 2h, signature_url: 'ftp://x' } }";
    let told_bad = told(bad);
    for part in [
        "`bundle.public_keys` is empty",
        "without `bundle.cache_dir`",
        "`bundle.remote.url` must be https",
        "`bundle.remote.signature_url` must be https",
        "`bundle.remote.poll`",
        "`bundle.remote.timeout`",
    ] {
        assert!(told_bad.contains(part), "{part}: {told_bad}");
    }
    assert!(told("{ path: b.tar.gz }").contains("`bundle.public_keys` is empty"));
    let options = "{ public_keys: [a], cache_dir: c, remote: { url: 'https://x.example/b', options: { aws_region: x } } }";
    assert!(told(options).contains("are for object stores"));
    let bucket =
        "{ public_keys: [a], cache_dir: c, remote: { url: 's3://b/c.tar.gz', ca_file: x } }";
    assert!(told(bucket).contains("are for https"));
    assert_eq!(
        told(bucket).contains("--features object-store"),
        !cfg!(feature = "object-store")
    );
}

#[test]
fn a_candidate_may_be_an_archive_and_leaves_the_last_good_one_alone() {
    let local = Local::new();
    local.put(local.publisher.publish(1, PERMIT));
    let settings = BundleSettings {
        path: bundle(OTHER).path().to_path_buf(),
        candidate: Some(local.settings().path),
        ..local.settings()
    };
    assert_eq!(settings.problems(), []);
    let candidate = settings.candidate().unwrap();
    let snapshots = Snapshots::new(candidate, Arc::new(SystemClock), Arc::new(staging())).unwrap();
    snapshots.load().unwrap();
    assert_eq!(live(&snapshots), id_of(PERMIT));
    assert!(!local.folder.path().join("cache").exists());
    let unsigned = BundleSettings {
        public_keys: Vec::new(),
        ..settings
    };
    assert_eq!(unsigned.problems().len(), 1);
}

#[test]
fn a_query_of_the_url_is_sent_and_never_shown() {
    let text = r#"{"url":"https://x.example/b.tar.gz?sig=s3cret"}"#;
    let settings: RemoteSettings = serde_json::from_str(text).unwrap();
    let remote = Remote::new(&settings).unwrap();
    assert_eq!(remote.root, PathBuf::from("https://x.example/b.tar.gz"));
}

#[cfg(feature = "object-store")]
#[tokio::test]
async fn an_object_store_is_asked_with_etags_too() {
    let far = Far::new().await;
    far.server.put(far.publisher.publish(1, PERMIT));
    let secret = far.folder.path().join("secret");
    fs::write(&secret, "s3cret").unwrap();
    let mut remote = far.remote();
    // The bucket is the first part of the path there; the server knows one level only, so the root stands for it.
    remote.url = "s3://bucket/b.tar.gz".to_owned();
    remote.options = [
        ("aws_endpoint", far.server.origin.as_str()),
        ("aws_virtual_hosted_style_request", "true"),
        ("aws_allow_http", "true"),
        ("aws_region", "eu-west-1"),
        ("aws_access_key_id", "key"),
    ]
    .map(|(key, value)| (key.to_owned(), value.to_owned()))
    .into();
    remote.secret_options = [("aws_secret_access_key".to_owned(), SecretRef::File(secret))].into();
    let store = Remote::new(&remote).unwrap();
    assert!(!format!("{store:?}").contains("s3cret"));
    let mut seen = Seen::default();
    let offer = store.ask(&mut seen).await.unwrap().unwrap();
    assert_eq!(offer.archive, far.publisher.publish(1, PERMIT).0);
    seen.judged(true);
    assert!(store.ask(&mut seen).await.unwrap().is_none());
    assert_eq!(far.server.count("/b.tar.gz.sig", 304), 1);

    remote.options.insert("aws_regoin".into(), "x".into());
    assert!(
        Remote::new(&remote)
            .unwrap_err()
            .message
            .contains("`aws_regoin`")
    );
    remote.options.remove("aws_regoin");
    let far_away = "http://10.0.0.1".to_owned();
    remote.options.insert("aws_endpoint".into(), far_away);
    assert!(
        Remote::new(&remote)
            .unwrap_err()
            .message
            .contains("must be https")
    );
}
