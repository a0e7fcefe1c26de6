use super::*;
use crate::pipeline::testing::{PERMIT, Publisher, Server};

/// The limit is for a broken build only.
const LONG: Duration = Duration::from_secs(60);

#[test]
fn a_remote_bundle_that_is_not_there_yet_means_not_ready_and_not_dead() {
    let outside = Runtime::new().unwrap();
    let server = outside.block_on(Server::start());
    let (publisher, folder) = (Publisher::new(), tempfile::tempdir().unwrap());
    let text = format!(
        "listen: {{ address: '127.0.0.1:0' }}\nadmin: {{ address: '127.0.0.1:0' }}\n\
         telemetry: {{ log: {{ level: error }} }}\n\
         bundle: {{ public_keys: ['{}'], cache_dir: '{}', remote: {{ url: '{}', poll: 100ms }} }}\n",
        publisher.public_key().display(),
        folder.path().join("cache").display(),
        server.url()
    );
    let config = Config::parse(&text).unwrap();
    let app = App::start(&config).unwrap();
    assert!(!app.wait_until_ready(Duration::from_millis(300)));
    assert!(matches!(readiness(&app.pipeline), Readiness::NotReady(_)));
    server.put(publisher.publish(1, PERMIT));
    assert!(app.wait_until_ready(LONG));
    assert!(matches!(readiness(&app.pipeline), Readiness::Ready));
    app.stop();

    drop(outside);
    let app = App::start(&config).unwrap();
    assert!(app.wait_until_ready(LONG), "without the network");
    app.stop();
}
