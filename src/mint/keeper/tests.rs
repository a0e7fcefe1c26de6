use std::fs;
use std::os::unix::fs::PermissionsExt;

use secrecy::ExposeSecret;
use tempfile::TempDir;

use super::*;
use crate::mint::{FreshSigningKey, KeySettings};
use crate::model::{ManualClock, SystemClock};

const AHEAD: Duration = Duration::from_secs(600);
const LIFE: Duration = Duration::from_secs(60);

struct House {
    folder: TempDir,
    clock: Arc<ManualClock>,
}

impl House {
    /// A folder with these keys, and a clock that shows the time `later` than they were written.
    fn new(names: &[&str], later: Duration) -> (Self, Vec<String>) {
        let house = Self {
            folder: tempfile::tempdir().unwrap(),
            clock: Arc::new(ManualClock::at(SystemClock.now())),
        };
        let kids = names.iter().map(|name| house.put(name)).collect();
        house.clock.advance(later);
        (house, kids)
    }

    fn put(&self, name: &str) -> String {
        let key = FreshSigningKey::generate(SigningAlgorithm::EdDSA).unwrap();
        self.write(name, key.pem.expose_secret());
        key.kid
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.folder.path().join(name), text).unwrap();
    }

    fn remove(&self, name: &str) {
        fs::remove_file(self.folder.path().join(name)).unwrap();
    }

    fn start(&self) -> Result<Keys, Vec<Problem>> {
        let settings = Settings {
            keys: KeySettings {
                directory: Some(self.folder.path().to_owned()),
                ..KeySettings::default()
            },
            ..Settings::default()
        };
        Keys::start(&settings, Arc::<ManualClock>::clone(&self.clock))
    }
}

/// Enough looks for a change to be seen, and to have held still.
fn look(keys: &Keys) {
    keys.look();
    keys.look();
}

fn signing(keys: &Keys) -> String {
    keys.signing().unwrap().kid().to_owned()
}

#[test]
fn a_new_file_is_published_at_once_and_signs_after_a_while() {
    let (house, kids) = House::new(&["1.pem"], AHEAD);
    let keys = house.start().unwrap();
    assert_eq!(signing(&keys), kids[0]);
    let new = house.put("2.pem");
    keys.look();
    assert!(!keys.key_set().contains(&new), "it may be half written");
    keys.look();
    assert!(keys.key_set().contains(&new));
    assert_eq!(signing(&keys), kids[0]);
    house.clock.advance(AHEAD);
    assert_eq!(signing(&keys), new);
    assert!(
        keys.key_set().contains(&kids[0]),
        "its tokens are still good"
    );
    house.remove("1.pem");
    look(&keys);
    assert!(
        keys.key_set().contains(&kids[0]),
        "for as long as a token lives"
    );
    house.clock.advance(LIFE);
    assert!(!keys.key_set().contains(&kids[0]));
}

#[test]
fn an_older_name_is_published_and_never_signs_beside_a_newer_one() {
    let (house, kids) = House::new(&["2.pem"], AHEAD);
    let keys = house.start().unwrap();
    let older = house.put("1.pem");
    look(&keys);
    house.clock.advance(AHEAD * 2);
    assert_eq!(signing(&keys), kids[0]);
    assert!(keys.key_set().contains(&older));
}

#[test]
fn a_key_that_is_taken_away_signs_no_more_at_once() {
    let (house, kids) = House::new(&["1.pem"], AHEAD);
    let keys = house.start().unwrap();
    let old = keys.signing().unwrap();
    house.remove("1.pem");
    let new = house.put("2.pem");
    look(&keys);
    assert_eq!(signing(&keys), new, "there is no other");
    assert!(old.is_withdrawn() && old.kid() == kids[0]);
}

#[test]
fn at_start_files_that_are_old_enough_count_as_published() {
    let (house, kids) = House::new(&["1.pem", "2.pem"], AHEAD);
    assert_eq!(signing(&house.start().unwrap()), kids[1]);
    let (house, kids) = House::new(&["1.pem", "2.pem"], AHEAD / 2);
    let keys = house.start().unwrap();
    assert_eq!(
        signing(&keys),
        kids[0],
        "others may not have the second yet"
    );
    house.clock.advance(AHEAD / 2);
    assert_eq!(signing(&keys), kids[1]);
}

#[test]
fn what_cannot_be_read_at_start_is_no_start() {
    let (house, _) = House::new(&[], AHEAD);
    let told = |house: &House| format!("{:?}", house.start().unwrap_err());
    assert!(told(&house).contains("holds no key that signs"));
    house.put("notes.txt");
    house.put(".hidden.pem");
    assert!(
        told(&house).contains("holds no key that signs"),
        "other names are passed over"
    );
    house.put("1.pem");
    assert!(house.start().is_ok());
    house.write("2.pem", "-----BEGIN PRIVATE KEY-----\ncanary\n");
    let text = told(&house);
    assert!(
        text.contains("2.pem") && text.contains("no private key in PEM"),
        "{text}"
    );
    assert!(!text.contains("canary"));
    house.write("2.pem", &" ".repeat(17 * 1024));
    assert!(told(&house).contains("longer than 16384"));
    fs::copy(
        house.folder.path().join("1.pem"),
        house.folder.path().join("2.pem"),
    )
    .unwrap();
    assert!(told(&house).contains("the same key as `1.pem`"));
    for number in 2..20 {
        house.put(&format!("{number}.pem"));
    }
    assert!(told(&house).contains("more than 16 keys"));
    fs::remove_dir_all(house.folder.path()).unwrap();
    assert!(told(&house).contains("cannot look at the keys"));
    let problems = directory::listed_keys(Path::new("no/such/folder")).unwrap_err();
    let hint = problems[0].hint.as_deref();
    assert!(
        hint.unwrap().contains("cardea mint create-key"),
        "{problems:?}"
    );
}

#[test]
fn what_cannot_be_read_later_changes_nothing_and_is_told_until_it_is_good_again() {
    let (house, kids) = House::new(&["1.pem"], AHEAD);
    let keys = house.start().unwrap();
    for mend in [
        // Half a key.
        (|house: &House| house.write("2.pem", "half")) as fn(&House),
        // No key at all.
        |house| house.remove("1.pem"),
    ] {
        let (path, aside) = ["1.pem", "1.aside"]
            .map(|name| house.folder.path().join(name))
            .into();
        fs::copy(&path, &aside).unwrap();
        mend(&house);
        look(&keys);
        assert!(keys.stale());
        assert_eq!(signing(&keys), kids[0]);
        look(&keys);
        assert!(keys.stale(), "it is still so");
        fs::rename(&aside, &path).unwrap();
        let _ = fs::remove_file(house.folder.path().join("2.pem"));
        look(&keys);
        assert!(!keys.stale());
        assert_eq!(signing(&keys), kids[0]);
    }
    let away = house.folder.path().with_extension("away");
    fs::rename(house.folder.path(), &away).unwrap();
    keys.look();
    assert!(keys.stale());
    fs::rename(&away, house.folder.path()).unwrap();
    keys.look();
    assert!(!keys.stale());
    assert_eq!(signing(&keys), kids[0]);
}

#[test]
fn a_file_that_only_others_may_read_is_told_by_its_name() {
    let (house, _) = House::new(&["1.pem"], AHEAD);
    let path = house.folder.path().join("1.pem");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o0)).unwrap();
    // Root reads it all the same.
    if fs::File::open(&path).is_err() {
        let text = format!("{:?}", house.start().unwrap_err());
        assert!(
            text.contains("1.pem") && text.contains("cannot read the key"),
            "{text}"
        );
    } else {
        assert!(house.start().is_ok());
    }
}
