//! What documents may not say, and what hostile ones may not do.

use super::*;

#[test]
fn a_malformed_structure_is_told_with_file_line_and_column() {
    for (text, expected) in [
        ("openapi: [3.1.0]\n", "api.yaml:1:10: "),
        ("openapi: 3.1.0\ninfo: x\n", "api.yaml:2:7: "),
        (
            "openapi: 3.1.0\ninfo: {title: t}\n",
            "api.yaml:2:8: missing field `version`",
        ),
        (
            "{\"openapi\": \"3.1.0\",\n \"info\": {\"version\": \"1\"},\n \"paths\": []}",
            "api.yaml:3:11: ",
        ),
        (
            "openapi: 3.1.0\nopenapi: 3.0.0\n",
            "api.yaml:2:1: duplicate mapping key `openapi`",
        ),
        ("openapi: 3.1.0\ninfo: {version: 1}\n---\n{}\n", "api.yaml:"),
        ("a: b: c\n", "api.yaml:1:"),
        ("", "api.yaml:"),
    ] {
        let mistake = mistake(text);
        assert!(mistake.starts_with(expected), "{text:?}: {mistake}");
    }
    for (paths, expected) in [
        ("  /a: { get: [] }\n", "api.yaml:4:14: "),
        (
            "  /a:\n    get: { operationId: a, deprecated: maybe }\n",
            "api.yaml:5:40: ",
        ),
        (
            "  /a:\n    get: { operationId: a, x-cardea: { sensitivty: 2 } }\n",
            "api.yaml:5:40: unknown field `sensitivty`",
        ),
        (
            "  /a: { x-cardea: { lifecycle: unknown } }\n",
            "api.yaml:4:32: ",
        ),
        (
            "  /a: { x-cardea: { resource: object } }\n",
            "api.yaml:4:21: invalid value: string \"object\", expected `route` or",
        ),
        (
            "  /a: { get: {} }\n  /a: { put: {} }\n",
            "api.yaml:5:3: duplicate mapping key",
        ),
    ] {
        let mistake = mistake(&document(paths));
        assert!(mistake.starts_with(expected), "{paths:?}: {mistake}");
    }
}

#[test]
fn a_document_that_reads_well_and_means_nothing_is_told_where() {
    for (paths, expected) in [
        (
            "  /a: { get: {} }\n",
            "api.yaml:4:14: `GET /a` has no `operationId`\n  hint: add one, such as `operationId: getA`",
        ),
        (
            "  /a:\n    get: { operationId: x }\n    put: { operationId: x }\n",
            "api.yaml:6:25: the `operationId` `x` is already used in line 5",
        ),
        (
            "  /a: { get: { operationId: 'a b' } }\n",
            "api.yaml:4:29: `a b` cannot be the name of an action",
        ),
        (
            "  /a: { get: { operationId: \"a\\nb\" } }\n",
            "api.yaml:4:29: `a\\u{a}b` cannot",
        ),
        (
            "  /a: { get: { operationId: '' } }\n",
            "api.yaml:4:29: `` cannot",
        ),
        (
            "  a: { get: { operationId: a } }\n",
            "api.yaml:4:3: `a`: a path template begins with `/`",
        ),
        (
            "  /a/{b: {}\n",
            "api.yaml:4:3: `/a/{b`: the path template holds an unpaired brace",
        ),
        (
            "  /a/{b}:\n    parameters: [{ name: c, in: path }]\n    get: { operationId: a }\n",
            "api.yaml:5:18: `/a/{b}` holds no parameter `c`",
        ),
        (
            "  /a: { get: { operationId: a, parameters: [{ name: c, in: body }] } }\n",
            "api.yaml:4:45: the parameter `c` is in no place",
        ),
        (
            "  /a: { get: { operationId: a, parameters: [{ in: query }] } }\n",
            "api.yaml:4:45: a parameter needs `name` and `in`",
        ),
        (
            "  /a: { get: { operationId: a, parameters: [{ $ref: 'other.yaml#/X' }] } }\n",
            "api.yaml:4:45: the reference `other.yaml#/X` leads to nothing",
        ),
        (
            "  /a: { get: { operationId: a, parameters: [{ name: c, in: query, schema: { $ref: x } }] } }\n",
            "api.yaml:4:45: the reference `x` leads to nothing",
        ),
        (
            "  /a: { $ref: 'x.yaml' }\n",
            "api.yaml:4:15: the reference `x.yaml` leads to nothing",
        ),
    ] {
        let mistake = mistake(&document(paths));
        assert!(mistake.starts_with(expected), "{paths:?}: {mistake}");
    }
}

#[test]
fn what_an_operation_says_for_routing_and_policies_is_checked() {
    for (paths, expected) in [
        (
            "  /a: { get: { operationId: a, servers: [{ url: v1 }] } }\n",
            "api.yaml:4:42: the server URL `v1` is relative",
        ),
        (
            "  /a: { get: { operationId: a, x-cardea: { sensitivity: 4 } } }\n",
            "api.yaml:4:57: `sensitivity` is 0",
        ),
        (
            "  /a: { get: { operationId: a, x-cardea: { tags: [\"a\\u202eb\"] } } }\n",
            "api.yaml:4:51: this tag is empty, longer than 128 bytes, or not printable",
        ),
        (
            "  /a: { get: { operationId: a, x-cardea: { resource: { kind: a, id: [b] } } } }\n",
            "api.yaml:4:54: the resource's `id` names `b`, which is no parameter of `/a`",
        ),
        (
            "  /a/{b}: { get: { operationId: a, x-cardea: { resource: { kind: x/y, id: [b] } } } }\n",
            "api.yaml:4:58: the resource's `kind` holds a `/`",
        ),
        (
            "  /a: { get: { operationId: a, x-cardea: { resource: { kind: a, id: [] } } } }\n",
            "api.yaml:4:54: the resource's `id` names no path parameter",
        ),
        (
            "  /{x}: { get: { operationId: a } }\n  /{y}: { get: { operationId: b } }\n",
            "api.yaml:5:16: `GET /{y}` (`api.b`) matches the same requests as `GET /{x}` (`api.a`)",
        ),
        (
            "  /v{n}: { get: { operationId: a } }\n  /{y}.json: { get: { operationId: b } }\n",
            "api.yaml:5:21: a parameter of `GET /{y}.json` and one of another",
        ),
    ] {
        let mistake = mistake(&document(paths));
        assert!(mistake.starts_with(expected), "{paths:?}: {mistake}");
    }
}

#[test]
fn what_a_document_says_of_its_api_is_checked() {
    let with = |extra: &str| document("  {}\n") + extra;
    for (extra, expected) in [
        (
            "x-cardea: { api: a.b }\n",
            "api.yaml:5:18: `a.b` is no name for an API",
        ),
        (
            "x-cardea: { api: undocumented }\n",
            "api.yaml:5:18: the API name `undocumented` is reserved",
        ),
        (
            "x-cardea: { sunset: soon }\n",
            "api.yaml:5:21: `sunset` is no date and time",
        ),
        (
            "x-cardea: { hosts: [] }\n",
            "api.yaml:5:20: `hosts` names 1 to 64 hosts",
        ),
        (
            "x-cardea: { hosts: [a/b] }\n",
            "api.yaml:5:21: `a/b` is no host",
        ),
        (
            "x-cardea: { hosts: ['*.example.com'] }\n",
            "api.yaml:5:21: `*.example.com` is no host",
        ),
        ("x-cardea: { exposure: everyone }\n", "api.yaml:5:23: "),
        (
            "x-cardea: { owner: '' }\n",
            "api.yaml:5:20: this owner is empty",
        ),
        (
            "x-cardea: { base_path: '/{v}' }\n",
            "api.yaml:5:24: `base_path`: a base path holds no parameters",
        ),
        (
            "servers: [{ url: /a }, { url: /b }]\n",
            "api.yaml:5:24: the servers give two base paths, `/a/` and `/b/`",
        ),
        (
            "servers: [{ url: '/{v}' }]\n",
            "api.yaml:5:11: the server URL `/{v}` holds a variable",
        ),
        (
            "servers: [{ url: '/a?b' }]\n",
            "api.yaml:5:11: the server URL `/a?b` holds a query",
        ),
        (
            "servers: [{ url: 'https://h/../a' }]\n",
            "api.yaml:5:11: the server URL `https://h/../a` has an unusable path",
        ),
    ] {
        let mistake = mistake(&with(extra));
        assert!(mistake.starts_with(expected), "{extra:?}: {mistake}");
    }
    let other = with("").replace("3.1.0", "3.2.0");
    assert!(mistake(&other).starts_with("api.yaml:1:10: OpenAPI version `3.2.0` is not known"));
    let swagger = with("").replace("openapi: 3.1.0", "swagger: '2.0'");
    assert!(mistake(&swagger).starts_with("api.yaml: the document does not say `openapi: ..`"));
    let dotted = mistakes(&[("orders.v1.yaml", &with(""))]);
    assert!(
        dotted[0].contains("`orders.v1` is no name for an API"),
        "{dotted:?}"
    );
}

#[test]
fn every_mistake_of_every_document_is_told_at_once() {
    let first = document("  /a: { get: {} }\n  /b: { get: { operationId: 'b b' } }\n");
    let all = mistakes(&[
        ("a.yaml", &first),
        ("b.yaml", "openapi: {}"),
        ("c.yaml", &first),
    ]);
    assert_eq!(all.len(), 5, "{all:#?}");
}

#[test]
fn documents_that_meet_on_a_host_may_not_describe_the_same_requests() {
    let any = document("  /a/{x}: { get: { operationId: a } }\n");
    let named = document("  /a/{y}: { get: { operationId: a } }\n")
        + "x-cardea: { hosts: [h.example, i.example] }\n";
    let all = mistakes(&[("any.yaml", &any), ("named.yaml", &named)]);
    assert_eq!(all.len(), 1, "{all:#?}");
    assert!(
        all[0].starts_with(
            "named.yaml:4:18: `GET /a/{y}` (`named.a`) matches the same requests as `GET /a/{x}` (`any.a`)"
        ),
        "{all:#?}"
    );
    let elsewhere = any + "x-cardea: { hosts: [j.example] }\n";
    assert!(compile(&[("any.yaml", &elsewhere), ("named.yaml", &named)]).is_ok());
}

#[test]
fn names_that_policies_could_not_tell_apart_are_refused() {
    let on = |host: &str| {
        document("  /a: { get: { operationId: a } }\n")
            + &format!("x-cardea: {{ hosts: [{host}] }}\n")
    };
    let all = mistakes(&[
        ("one.yaml", &on("h.example")),
        ("two.yaml", &on("i.example")),
    ]);
    assert_eq!(all.len(), 1, "{all:#?}");
    assert!(
        all[0].starts_with("two.yaml:4:14: the route `GET /a` is already described in one.yaml")
    );

    let empty = document("  {}\n");
    let all = mistakes(&[("x/api.yaml", &empty), ("y/api.yaml", &empty)]);
    assert_eq!(all.len(), 1, "{all:#?}");
    assert!(all[0].starts_with("y/api.yaml: the API name `api` is already used in x/api.yaml"));
}

#[test]
fn too_much_is_refused() {
    let huge = "#".repeat(crate::model::yaml::MAX_BYTES + 1);
    assert!(mistake(&huge).starts_with("api.yaml: the document is too large"));

    let paths: String = (0..=operations::MAX_OPERATIONS)
        .map(|index| format!("  /p{index}: {{ get: {{ operationId: o{index} }} }}\n"))
        .collect();
    assert!(mistake(&document(&paths)).contains("describes more than 5000 operations"));

    let empty = document("  {}\n");
    let many = vec![(PathBuf::from("a.yaml"), empty); MAX_DOCUMENTS + 1];
    assert_eq!(Inventory::compile(&many).unwrap_err().len(), 1);

    let paths: String = (0..300)
        .map(|index| format!("  /p{index}: {{ get: {{}} }}\n"))
        .collect();
    let all = mistakes(&[("api.yaml", &document(&paths))]);
    assert_eq!(all.len(), MAX_PROBLEMS + 1);
    assert_eq!(all.last().unwrap(), "and 100 more problems");
}

#[test]
fn b5_deep_nesting_is_refused_without_exhausting_the_stack() {
    let deep = 100_000;
    for text in [
        format!("x: {}{}", "[".repeat(deep), "]".repeat(deep)),
        format!("x: {}", "{a: ".repeat(deep)),
        format!(
            "x:\n{}",
            (1..2_000)
                .map(|n| format!("{}a:\n", " ".repeat(n)))
                .collect::<String>()
        ),
        "- ".repeat(deep),
        format!(
            "components: {{ schemas: {{ A: {} }} }}",
            "{allOf: [".repeat(deep)
        ),
    ] {
        assert_eq!(mistakes(&[("api.yaml", &text)]).len(), 1);
    }
}

#[test]
fn alias_bombs_are_refused() {
    let mut bomb =
        String::from("openapi: 3.1.0\ninfo: {version: '1'}\nx-0: &a0 [x,x,x,x,x,x,x,x,x]\n");
    bomb += &(1..=9)
        .map(|level| {
            let aliases = vec![format!("*a{}", level - 1); 9].join(",");
            format!("x-{level}: &a{level} [{aliases}]\n")
        })
        .collect::<String>();
    let refusal = mistake(&bomb);
    assert!(refusal.contains("too complex"), "{refusal}");

    let itself = document("  /a: &a { get: *a }\n");
    let refusal = mistake(&itself);
    assert!(refusal.contains("ecursive reference"), "{refusal}");
}

#[test]
fn references_that_lead_in_circles_end() {
    let text = document(
        "  /a: { get: { operationId: a, parameters: [{ $ref: '#/components/parameters/P' }] } }\n",
    ) + "components: { parameters: { P: { $ref: '#/components/parameters/P' } } }\n";
    assert!(mistake(&text).contains("lead in a circle"));

    let schema = "{ $ref: '#/components/schemas/S' }";
    let text = document(&format!(
        "  /a: {{ get: {{ operationId: a, parameters: [{{ name: q, in: query, schema: {schema} }}] }} }}\n"
    )) + &format!(
        "components: {{ schemas: {{ S: {{ oneOf: [{schema}, {schema}, {schema}, {schema}] }} }} }}\n"
    );
    let inventory = compile(&[("api.yaml", &text)]).unwrap();
    let matched = find(&inventory, "GET /a");
    assert_eq!(matched.operation.single_query_parameters, ["q"]);
}

#[test]
fn hosts_and_operations_may_not_multiply_without_bound() {
    let paths: String = (0..4_000)
        .map(|index| format!("  /p{index}: {{ get: {{ operationId: o{index} }} }}\n"))
        .collect();
    let mut documents = vec![(PathBuf::from("any.yaml"), document(&paths))];
    for index in 0..130 {
        let text = document("  {}\n") + &format!("x-cardea: {{ hosts: [h{index}.example] }}\n");
        documents.push((PathBuf::from(format!("d{index}.yaml")), text));
    }
    let problems = Inventory::compile(&documents).unwrap_err();
    assert_eq!(problems.len(), 1, "{problems:?}");
    assert!(
        problems[0].message.contains("too many hosts"),
        "{problems:?}"
    );
}
