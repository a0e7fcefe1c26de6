use proptest::prelude::*;

use super::*;

fn strict(raw: &str) -> Result<CanonicalPath, PathError> {
    CanonicalPath::parse(raw, PathRules::default())
}

#[test]
fn plain_paths_keep_their_spelling() {
    for raw in [
        "/",
        "/a",
        "/a/",
        "/v1/orders/42",
        "/a:cancel",
        "/a,b",
        "/a=1&b",
        "/~x/-_.",
    ] {
        assert_eq!(strict(raw).unwrap().as_str(), raw);
    }
}

#[test]
fn spellings_of_one_path_become_one() {
    for (raw, canonical) in [
        ("/%61dmin", "/admin"),
        ("/caf%c3%a9", "/caf%C3%A9"),
        ("/a%3fx=1", "/a%3Fx=1"),
        ("/a%20b", "/a%20b"),
        ("/%7Euser", "/~user"),
        ("/100%25", "/100%25"),
    ] {
        assert_eq!(strict(raw).unwrap().as_str(), canonical, "{raw}");
    }
}

#[test]
fn two_readings_are_refused() {
    for (raw, error) in [
        ("", PathError::NotAbsolute),
        ("*", PathError::NotAbsolute),
        ("http://evil.example/admin", PathError::NotAbsolute),
        ("pkg.Svc/Method", PathError::NotAbsolute),
        ("//x/people", PathError::EmptySegment),
        ("//", PathError::EmptySegment),
        ("///", PathError::EmptySegment),
        ("/a//", PathError::EmptySegment),
        ("/a//b", PathError::EmptySegment),
        ("/user/../admin", PathError::DotSegment),
        ("/user/%2e%2e/admin", PathError::DotSegment),
        ("/user/.%2E/admin", PathError::DotSegment),
        ("/public/..", PathError::DotSegment),
        ("/./a", PathError::DotSegment),
        ("/a%2fadmin", PathError::EscapedSlash),
        ("/a%2Fadmin", PathError::EscapedSlash),
        ("/pub/..%2fadmin", PathError::EscapedSlash),
        ("/a\\..\\admin", PathError::EscapedSlash),
        ("/a%5cadmin", PathError::EscapedSlash),
        ("/user/..;foo=bar/admin", PathError::Parameter),
        ("/admin;x=y", PathError::Parameter),
        ("/;/admin", PathError::Parameter),
        ("/admin%3bx", PathError::Parameter),
        ("/app1/admin#foo", PathError::Fragment),
        ("/app1/admin%23foo", PathError::Fragment),
        ("/a%00b", PathError::Character),
        ("/a%0d%0ab", PathError::Character),
        ("/a\nb", PathError::Character),
        ("/a b", PathError::Character),
        ("/caf\u{e9}", PathError::Character),
        ("/a|b", PathError::Character),
        ("/%c0%ae%c0%ae/admin", PathError::NotUtf8),
        ("/%ff", PathError::NotUtf8),
        ("/%252e%252e/admin", PathError::PercentEncoding),
        ("/%2561dmin", PathError::PercentEncoding),
        ("/%zz", PathError::PercentEncoding),
        ("/%4", PathError::PercentEncoding),
        ("/%", PathError::PercentEncoding),
        ("/%+1", PathError::PercentEncoding),
    ] {
        assert_eq!(strict(raw).map(|p| p.text), Err(error), "{raw:?}");
    }
}

#[test]
fn a_rule_is_relaxed_only_where_it_is_switched() {
    let keep_slashes = PathRules {
        escaped_slashes: TwoReadings::Keep,
        ..PathRules::default()
    };
    let path = CanonicalPath::parse("/a%2fb", keep_slashes).unwrap();
    assert_eq!((path.as_str(), path.segments().len()), ("/a%2Fb", 1));
    assert_eq!(
        CanonicalPath::parse("/pub/..%2fadmin", keep_slashes),
        Err(PathError::DotSegment)
    );

    let keep_both = PathRules {
        path_parameters: TwoReadings::Keep,
        ..keep_slashes
    };
    for raw in [
        "/pub;v%2F..%2Fadmin",
        "/pub;v%5c..%5cadmin",
        "/pub%2F..;v%2Fadmin",
        "/..;v%2Fadmin",
        "/pub%3Bv%2F.%2Fadmin",
    ] {
        let read = CanonicalPath::parse(raw, keep_both);
        assert_eq!(read, Err(PathError::DotSegment), "{raw}");
    }
    assert!(CanonicalPath::parse("/pub;v=..%2Fadmin", keep_both).is_ok());

    let keep_parameters = PathRules {
        path_parameters: TwoReadings::Keep,
        ..PathRules::default()
    };
    assert_eq!(
        CanonicalPath::parse("/a;v=1", keep_parameters)
            .unwrap()
            .as_str(),
        "/a%3Bv=1"
    );
    assert_eq!(
        CanonicalPath::parse("/user/..;foo=bar/admin", keep_parameters),
        Err(PathError::DotSegment)
    );

    let merge = PathRules {
        merge_slashes: true,
        ..PathRules::default()
    };
    assert_eq!(
        CanonicalPath::parse("//a///b//", merge).unwrap().as_str(),
        "/a/b/"
    );

    let decode_once = PathRules {
        double_encoding: TwoReadings::Keep,
        ..PathRules::default()
    };
    assert_eq!(
        CanonicalPath::parse("/%2561dmin", decode_once)
            .unwrap()
            .as_str(),
        "/%2561dmin"
    );
}

proptest! {
    #[test]
    fn canonical_form_is_a_fixed_point(raw in "/[ -~]{0,40}") {
        if let Ok(path) = strict(&raw) {
            let again = strict(path.as_str()).unwrap();
            prop_assert_eq!(again, path);
        }
    }

    #[test]
    fn no_reading_crosses_a_segment(raw in "(/[a-z.%;25eEfFcC\\\\]{0,6}){1,5}") {
        if let Ok(path) = strict(&raw) {
            prop_assert_eq!(path.segments().len(), raw.matches('/').count());
            for segment in path.segments() {
                prop_assert!(!segment.contains(['/', '\\', ';', '#', '\0']));
                prop_assert!(segment != "." && segment != "..");
            }
        }
    }

    #[test]
    fn encoding_a_segment_and_reading_it_gives_the_segment(segment in "[^/\\\\;#%\\x00-\\x1f\\x7f.]{1,12}") {
        let raw: String = segment.bytes().map(|b| format!("%{b:02x}")).collect();
        let path = strict(&format!("/{raw}")).unwrap();
        prop_assert_eq!(&path.segments()[0], &segment);
    }
}
