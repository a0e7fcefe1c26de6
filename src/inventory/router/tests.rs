//! The router against a naive one: every template is tried, and the best match is taken by its definition.

use proptest::prelude::*;

use super::*;
use crate::model::{Api, CanonicalPath, Lifecycle, PathRules, ResourceRule, Route, TwoReadings};

fn operation(method: Method, template: &Template, serial: usize) -> Arc<Operation> {
    let api = Api {
        name: "api".into(),
        version: String::new(),
        lifecycle: Lifecycle::Active,
        sunset: None,
        exposure: String::new(),
        owner: None,
        data_classes: Vec::new(),
    };
    Arc::new(Operation {
        id: format!("api.{serial}").into(),
        documented: true,
        method,
        route: Arc::new(Route {
            id: template.text.as_str().into(),
            api: Arc::new(api),
            template: template.text.clone(),
            sensitivity: 0,
            tags: Vec::new(),
            lifecycle: Lifecycle::Active,
        }),
        resource: ResourceRule::Route,
        observed: false,
        single_query_parameters: Vec::new(),
    })
}

/// How much each segment of a template says (more is better), and the values it gives.
type Says = (Vec<usize>, Vec<(Arc<str>, String)>);

/// `None` where the template does not match.
fn naive_match(template: &Template, path: &[String]) -> Option<Says> {
    if template.segments.len() != path.len() {
        return None;
    }
    let mut says = Vec::new();
    let mut values = Vec::new();
    for (own, segment) in template.segments.iter().zip(path) {
        match own {
            Segment::Fixed(text) => {
                if **text != **segment {
                    return None;
                }
                says.push(usize::MAX);
            }
            Segment::Parameter { name, affix } => {
                let fixed = affix.prefix.len() + affix.suffix.len();
                let inner = segment
                    .len()
                    .checked_sub(fixed)
                    .filter(|length| *length > 0)?;
                let value = segment.get(affix.prefix.len()..affix.prefix.len() + inner)?;
                if format!("{}{value}{}", affix.prefix, affix.suffix) != **segment {
                    return None;
                }
                says.push(fixed);
                values.push((Arc::clone(name), value.to_owned()));
            }
        }
    }
    Some((says, values))
}

fn segment() -> impl Strategy<Value = String> {
    prop_oneof![
        3 => prop::sample::select(vec!["a", "b", "aa", "ab", "a%20b", "%25", "*"]).prop_map(str::to_owned),
        3 => prop::sample::select(vec!["{x}", "{y}"]).prop_map(str::to_owned),
        2 => prop::sample::select(vec!["a{x}", "{x}b", "{x}bb", "a{x}b", "{x}.b", "b{x}"]).prop_map(str::to_owned),
    ]
}

fn template() -> impl Strategy<Value = String> {
    (prop::collection::vec(segment(), 0..4), any::<bool>()).prop_map(|(mut parts, slash)| {
        // Names differ by position, so that none stands twice.
        for (index, part) in parts.iter_mut().enumerate() {
            *part = part.replace('}', &format!("{index}}}"));
        }
        if slash || parts.is_empty() {
            parts.push(String::new());
        }
        format!("/{}", parts.join("/"))
    })
}

fn path() -> impl Strategy<Value = String> {
    let segment = prop::collection::vec(
        prop::sample::select(vec!["a", "b", ".b", "%20", "%2F", "%25", "%61", "*"]),
        1..4,
    )
    .prop_map(|parts| parts.concat());
    (prop::collection::vec(segment, 0..4), any::<bool>()).prop_map(|(mut parts, slash)| {
        if slash || parts.is_empty() {
            parts.push(String::new());
        }
        format!("/{}", parts.join("/"))
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_router_finds_what_a_naive_search_finds(
        templates in prop::collection::vec((template(), 0..3_usize), 1..16),
        paths in prop::collection::vec((path(), 0..3_usize), 1..16),
    ) {
        let mut router = Router::default();
        let mut accepted: Vec<(Template, Arc<Operation>)> = Vec::new();
        for (serial, (text, method)) in templates.iter().enumerate() {
            let template = Template::parse("", text).unwrap();
            let operation = operation(Method::ALL[*method], &template, serial);
            match router.insert(&template, &operation) {
                Ok(()) => accepted.push((template, operation)),
                Err(Conflict::Same(first)) => {
                    prop_assert!(accepted.iter().any(|(_, other)| Arc::ptr_eq(other, &first)));
                    prop_assert_eq!(first.method, operation.method);
                }
                Err(Conflict::Crossing) => {}
            }
        }
        let keep = PathRules {
            escaped_slashes: TwoReadings::Keep,
            double_encoding: TwoReadings::Keep,
            ..PathRules::default()
        };
        for (text, method) in paths {
            let Ok(path) = CanonicalPath::parse(&text, keep) else { continue };
            let method = Method::ALL[method];
            let mut matching: Vec<_> = accepted
                .iter()
                .filter(|(_, operation)| operation.method == method)
                .filter_map(|(template, operation)| {
                    let (says, values) = naive_match(template, path.segments())?;
                    Some((says, values, operation))
                })
                .collect();
            matching.sort_by(|one, other| other.0.cmp(&one.0));
            if let [first, second, ..] = matching.as_slice() {
                prop_assert_ne!(&first.0, &second.0, "two templates say as much of {}", text);
            }
            let expected = matching.first().map(|(_, values, operation)| (&operation.id, values));
            let found = router.find(method, path.segments());
            let found = found.as_ref().map(|matched| (&matched.operation.id, &matched.parameters));
            prop_assert_eq!(found, expected, "{} {}", method.as_str(), text);
        }
    }
}
