//! What a token says of its status: which list, and which place on it (draft-ietf-oauth-status-list, section 6).

use std::fmt;

use serde_json::{Map, Value};
use url::Url;

use super::super::fetch::{FetchError, key_url};
use super::super::token::Wrong;
use crate::model::{CredentialFault as Fault, without_query};

/// A place on a list.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Reference {
    /// The list, as the token writes it.
    pub(super) uri: String,
    /// The same, ready to be fetched.
    pub(super) url: Url,
    /// The place.
    pub(super) index: u64,
}

/// What a URL asks for may be a secret: its query is not shown.
impl fmt::Debug for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reference")
            .field("uri", &without_query(&self.uri))
            .field("index", &self.index)
            .finish_non_exhaustive()
    }
}

/// Where lists may be fetched from.
#[derive(Debug)]
pub(super) struct Places(Vec<Url>);

impl Places {
    /// # Errors
    /// [`FetchError::Url`] where one of them may not be asked.
    pub(super) fn new(prefixes: &[String]) -> Result<Self, FetchError> {
        let prefixes: Result<_, _> = prefixes.iter().map(|prefix| key_url(prefix)).collect();
        prefixes.map(Self)
    }

    /// What a token says of its status; `None` where it says nothing. Nothing is fetched for that.
    ///
    /// # Errors
    /// [`Fault::Claims`] where it says something that is no place on a list that may be fetched.
    pub(super) fn read(&self, claims: &Map<String, Value>) -> Result<Option<Reference>, Wrong> {
        let Some(status) = claims.get("status") else {
            return Ok(None);
        };
        let wrong = |detail| Wrong(Fault::Claims, detail);
        let list = status.get("status_list").and_then(Value::as_object);
        let list = list.ok_or(wrong("the token's status is not told by a status list"))?;
        let index = list.get("idx").and_then(Value::as_u64);
        let index = index.ok_or(wrong("the token's place on its status list is no index"))?;
        let uri = list.get("uri").and_then(Value::as_str);
        let uri = uri.ok_or(wrong("the token's status list has no URL"))?;
        let url = self.url(uri).ok_or(wrong(
            "the token's status list does not lie below one of `url_prefixes`",
        ))?;
        let uri = uri.to_owned();
        Ok(Some(Reference { uri, url, index }))
    }

    /// The URL, where it may be fetched: in its one spelling, and below one of the prefixes by whole segments.
    fn url(&self, text: &str) -> Option<Url> {
        let url = key_url(text).ok()?;
        // Servers differ in when they decode: what is escaped could lead out of the prefix again.
        let plain = url.as_str() == text && !url.path().contains('%');
        let below = |prefix: &Url| {
            url.origin() == prefix.origin() && segments(&url).starts_with(&segments(prefix))
        };
        (plain && self.0.iter().any(below)).then_some(url)
    }
}

/// The segments of a path, without the empty one after a final `/`.
fn segments(url: &Url) -> Vec<&str> {
    let mut segments: Vec<&str> = url.path_segments().into_iter().flatten().collect();
    if segments.last().is_some_and(|last| last.is_empty()) {
        segments.pop();
    }
    segments
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn places(prefixes: &[&str]) -> Places {
        let prefixes: Vec<String> = prefixes.iter().map(|&prefix| prefix.into()).collect();
        Places::new(&prefixes).unwrap()
    }

    fn read(status: &Value) -> Result<Option<Reference>, Wrong> {
        let claims = json!({ "status": status });
        places(&["https://idp.example/lists"]).read(claims.as_object().unwrap())
    }

    #[test]
    fn a_token_names_a_list_and_a_place() {
        let uri = "https://idp.example/lists/1";
        let list = json!({"idx": 0, "uri": uri, "more": 1});
        let read = read(&json!({"status_list": list, "other": {}}));
        let read = read.unwrap().unwrap();
        assert_eq!((read.uri.as_str(), read.index), (uri, 0));
        assert_eq!(places(&[]).read(&Map::new()), Ok(None));
    }

    #[test]
    fn what_is_no_place_on_a_list_is_refused() {
        let uri = "https://idp.example/lists/1";
        for bad in [
            json!(null),
            json!("active"),
            json!({}),
            json!({"assertion": {}}),
            json!({"status_list": null}),
            json!({"status_list": [0, uri]}),
            json!({"status_list": {"uri": uri}}),
            json!({"status_list": {"idx": -1, "uri": uri}}),
            json!({"status_list": {"idx": 1.0, "uri": uri}}),
            json!({"status_list": {"idx": 1e2, "uri": uri}}),
            json!({"status_list": {"idx": "1", "uri": uri}}),
            json!({"status_list": {"idx": 18_446_744_073_709_551_616_f64, "uri": uri}}),
            json!({"status_list": {"idx": null, "uri": uri}}),
            json!({"status_list": {"idx": [1], "uri": uri}}),
            json!({"status_list": {"idx": 1}}),
            json!({"status_list": {"idx": 1, "uri": [uri]}}),
            json!({"status_list": {"idx": 1, "uri": ""}}),
        ] {
            let error = read(&bad).unwrap_err();
            assert_eq!(error.0, Fault::Claims, "{bad}");
        }
    }

    #[test]
    fn j5_only_what_lies_below_a_prefix_by_whole_segments_is_fetched() {
        let places = places(&[
            "https://idp.example/lists",
            "https://cdn.example",
            "http://127.0.0.1:8080/a/b/",
        ]);
        for good in [
            "https://idp.example/lists",
            "https://idp.example/lists/",
            "https://idp.example/lists/1",
            "https://idp.example/lists/1/2.jwt?v=3",
            "https://cdn.example/",
            "https://cdn.example/any/where",
            "http://127.0.0.1:8080/a/b/c",
        ] {
            assert_eq!(places.url(good).map(String::from).as_deref(), Some(good));
        }
        for bad in [
            "https://idp.example/listsx/1",
            "https://idp.example/",
            "https://idp.example/list",
            "https://idp.example/x/lists/1",
            "https://idp.example/Lists/1",
            "https://idp.example/lists/../admin",
            "https://idp.example/lists/%2e%2e/admin",
            "https://idp.example/lists/%2e%2e%2fadmin",
            "https://idp.example/lists/..%2fadmin",
            "https://idp.example/lists\\..\\admin",
            "https://idp.example/lists/a b",
            "https://IDP.example/lists/1",
            "https://idp.example:443/lists/1",
            "https://idp.example:444/lists/1",
            "https://idp.example./lists/1",
            "https://user@idp.example/lists/1",
            "https://idp.example@evil.example/lists/1",
            "https://idp.example.evil.example/lists/1",
            "https://evil.example/lists/1",
            "https://idp.example/lists/1#x",
            "http://idp.example/lists/1",
            "http://127.0.0.1:8080/a/bc",
            "http://127.0.0.1:8081/a/b/c",
            "http://localhost:8080/a/b/c",
            "http://169.254.169.254/latest",
            "https://cdn.example",
            " https://cdn.example/1",
            "file:///lists/1",
            "/lists/1",
            "",
        ] {
            assert_eq!(places.url(bad), None, "{bad}");
        }
    }
}
