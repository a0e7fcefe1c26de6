//! The plan of the house, held against its source: who may import whom, and which words stay in which room.
//!
//! Rust keeps no layers inside a crate, so this does. Every module of `src/` is read, its tests apart from its code; each
//! check is shown to find what it looks for in a small sample that breaks it.
#![cfg(test)]
#![expect(
    clippy::disallowed_methods,
    reason = "the source is read, which nobody waits for"
)]

#[path = "layers/attacks.rs"]
mod attacks;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use proc_macro2::{Span, TokenStream, TokenTree};
use syn::visit::{self, Visit};
use syn::{Attribute, Item, ItemMod, Meta, UseTree};

/// The layers, lowest first. A module imports only from layers below its own.
const LAYERS: [&[&str]; 8] = [
    &["model"],
    &[
        "identity",
        "inventory",
        "context",
        "policy",
        "state",
        "mint",
        "telemetry",
        "web",
    ],
    &["pipeline", "signals"],
    &["envoy", "admin", "public"],
    &["rehearsal"],
    &["config"],
    &["app"],
    &["cli"],
];

/// Crates (by the beginning of their names) that only some modules may name, in code. Where a module is listed, so is
/// everything below it.
const CRATES: [(&str, &[&str]); 6] = [
    ("cedar", &["policy"]),
    // Exporters speak OTLP, whose metadata and TLS settings are tonic's types.
    ("tonic", &["envoy", "telemetry::collector"]),
    // Checks from files are read by the same code as checks from Envoy, so they become its messages first.
    ("prost", &["envoy", "rehearsal"]),
    // What certificates say is read in one place.
    ("x509", &["identity::certificate"]),
    // What is said to a shared state is said in one place.
    ("redis", &["state"]),
    // What only computes needs no runtime. A proof waits for a solver.
    (
        "tokio",
        &[
            "admin",
            "app",
            "cli",
            "envoy",
            "identity",
            "mint",
            "pipeline",
            "policy::proof",
            "public",
            "state",
            "signals",
            "telemetry",
            "web",
        ],
    ),
];

/// Names that only some modules may say, in code.
const NAMES: [(&str, &[&str]); 3] = [
    (
        "StatusCode",
        &[
            // What callers of Envoy hear: the one table.
            "envoy::response",
            // HTTP servers of their own, for operators and for the demo, and an HTTP client.
            "admin::routes",
            "public::routes",
            "cli::demo",
            "identity::fetch",
            "pipeline::source",
        ],
    ),
    // A principal of a caller who is supposed and not proven, and decisions about one: nothing that answers Envoy may
    // come near them.
    (
        "supposed",
        &[
            "policy",
            "pipeline::rehearsal",
            "pipeline::trial",
            "rehearsal",
            "identity",
            "cli",
        ],
    ),
    ("rehearse", &["cli", "pipeline::trial", "rehearsal"]),
];

/// Proofs, and the one module that may make each.
const PROOFS: [(&str, &str); 3] = [
    ("Permit::assertion", "policy::judge"),
    ("VerifiedIdentity::assertion", "identity::scheme"),
    ("Verified::assertion", "policy::bundle::signature"),
];

#[test]
fn the_house_stands_as_planned() {
    let files = source(Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/src")));
    assert!(files.len() > 50, "only {} files were found", files.len());
    let found = faults(&files);
    assert!(found.is_empty(), "\n{}", found.join("\n"));
}

/// Every Rust file below a folder, by its path within it.
fn source(root: &Path) -> BTreeMap<String, String> {
    let mut files = BTreeMap::new();
    let mut folders = vec![root.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|end| end == "rs") {
                let name = path.strip_prefix(root).unwrap().to_str().unwrap();
                files.insert(name.to_owned(), fs::read_to_string(&path).unwrap());
            }
        }
    }
    files
}

/// Everything in these files that the plan does not allow.
fn faults(files: &BTreeMap<String, String>) -> Vec<String> {
    let mut house = House::default();
    house.enter(files, "lib.rs", &[], false);
    let mut faults = std::mem::take(&mut house.faults);
    faults.extend(unreached(files, &house));
    faults.extend(table(&house));
    for said in &house.said {
        faults.extend(said.layer_fault());
        faults.extend(said.crate_fault());
        faults.extend(said.name_fault());
    }
    faults.extend(proofs(&house));
    faults
}

/// What was read of the house.
#[derive(Default)]
struct House {
    files: BTreeSet<String>,
    top: BTreeSet<String>,
    said: Vec<Said>,
    faults: Vec<String>,
}

/// A path somewhere in the source, resolved: `crate::model::Clock` is `["crate", "model", "Clock"]`.
struct Said {
    place: String,
    module: Vec<String>,
    path: Vec<String>,
    test: bool,
}

impl House {
    /// Reads a file and every file its `mod` items lead to, as the compiler would.
    fn enter(
        &mut self,
        files: &BTreeMap<String, String>,
        file: &str,
        module: &[String],
        test: bool,
    ) {
        let Some(source) = files.get(file) else {
            self.faults
                .push(format!("{file}: the module has no file of that name"));
            return;
        };
        self.files.insert(file.to_owned());
        let parsed = match syn::parse_file(source) {
            Ok(parsed) => parsed,
            Err(error) => return self.faults.push(format!("{file}: {error}")),
        };
        let mut reader = Reader {
            file: file.to_owned(),
            module: module.to_vec(),
            test,
            said: Vec::new(),
            children: Vec::new(),
            faults: Vec::new(),
        };
        reader.visit_file(&parsed);
        self.said.append(&mut reader.said);
        self.faults.append(&mut reader.faults);
        for (child, test) in reader.children {
            if let [name] = child.as_slice() {
                self.top.insert(name.clone());
            }
            self.enter(files, &format!("{}.rs", child.join("/")), &child, test);
        }
    }
}

/// Reads one file.
struct Reader {
    file: String,
    module: Vec<String>,
    test: bool,
    said: Vec<Said>,
    children: Vec<(Vec<String>, bool)>,
    faults: Vec<String>,
}

impl Reader {
    fn say(&mut self, path: Vec<String>, at: Span) {
        let place = format!("{}:{}", self.file, at.start().line);
        match self.resolve(path) {
            Some(path) => self.said.push(Said {
                place,
                module: self.module.clone(),
                path,
                test: self.test,
            }),
            None => self
                .faults
                .push(format!("{place}: `super` leads out of the crate")),
        }
    }

    /// `self` and `super` become `crate`. Other paths stay as they are.
    fn resolve(&self, path: Vec<String>) -> Option<Vec<String>> {
        let mut base = self.module.clone();
        let mut rest = path.as_slice();
        match rest.first().map(String::as_str) {
            Some("self") => rest = &rest[1..],
            Some("super") => {}
            _ => return Some(path),
        }
        while rest.first().is_some_and(|part| part == "super") {
            base.pop()?;
            rest = &rest[1..];
        }
        let root = std::iter::once("crate".to_owned());
        Some(root.chain(base).chain(rest.iter().cloned()).collect())
    }

    fn say_tree(&mut self, before: &[String], tree: &UseTree) {
        let with = |name: String| [before, &[name]].concat();
        match tree {
            UseTree::Path(path) => self.say_tree(&with(path.ident.to_string()), &path.tree),
            UseTree::Group(group) => {
                for tree in &group.items {
                    self.say_tree(before, tree);
                }
            }
            UseTree::Name(name) if name.ident == "self" => {
                self.say(before.to_vec(), name.ident.span());
            }
            UseTree::Rename(name) if name.ident == "self" => {
                self.say(before.to_vec(), name.ident.span());
            }
            UseTree::Name(name) => self.say(with(name.ident.to_string()), name.ident.span()),
            UseTree::Rename(name) => self.say(with(name.ident.to_string()), name.ident.span()),
            UseTree::Glob(glob) => self.say(with("*".to_owned()), glob.star_token.spans[0]),
        }
    }

    /// What macros are given is no syntax yet: every `a::b` in it counts as a path.
    fn say_tokens(&mut self, tokens: TokenStream) {
        let mut path: Vec<String> = Vec::new();
        let (mut at, mut colons) = (Span::call_site(), 0);
        for token in tokens {
            match token {
                TokenTree::Ident(ident) if path.is_empty() || colons == 2 => {
                    if path.is_empty() {
                        at = ident.span();
                    }
                    path.push(ident.to_string());
                    colons = 0;
                }
                TokenTree::Punct(punct) if punct.as_char() == ':' && colons < 2 => colons += 1,
                other => {
                    self.end_of_path(&mut path, at);
                    colons = 0;
                    match other {
                        TokenTree::Ident(ident) => {
                            at = ident.span();
                            path.push(ident.to_string());
                        }
                        TokenTree::Group(group) => self.say_tokens(group.stream()),
                        TokenTree::Punct(_) | TokenTree::Literal(_) => {}
                    }
                }
            }
        }
        self.end_of_path(&mut path, at);
    }

    fn end_of_path(&mut self, path: &mut Vec<String>, at: Span) {
        let path = std::mem::take(path);
        // `crate` alone is a visibility.
        if !path.is_empty() && path != ["crate"] {
            self.say(path, at);
        }
    }

    /// Reads something that may be for tests alone.
    fn within(&mut self, attributes: &[Attribute], read: impl FnOnce(&mut Self)) {
        let before = self.test;
        self.test |= attributes.iter().any(is_for_tests);
        read(self);
        self.test = before;
    }
}

fn is_for_tests(attribute: &Attribute) -> bool {
    match &attribute.meta {
        Meta::Path(path) => path.is_ident("test"),
        Meta::List(list) => {
            let whole = list.tokens.to_string();
            list.path.is_ident("cfg") && whole == "test"
        }
        Meta::NameValue(_) => false,
    }
}

fn attributes(item: &Item) -> &[Attribute] {
    match item {
        Item::Const(item) => &item.attrs,
        Item::Enum(item) => &item.attrs,
        Item::Fn(item) => &item.attrs,
        Item::Impl(item) => &item.attrs,
        Item::Macro(item) => &item.attrs,
        Item::Mod(item) => &item.attrs,
        Item::Static(item) => &item.attrs,
        Item::Struct(item) => &item.attrs,
        Item::Trait(item) => &item.attrs,
        Item::Type(item) => &item.attrs,
        Item::Use(item) => &item.attrs,
        _ => &[],
    }
}

impl<'ast> Visit<'ast> for Reader {
    fn visit_item(&mut self, item: &'ast Item) {
        self.within(attributes(item), |reader| visit::visit_item(reader, item));
    }

    fn visit_impl_item_fn(&mut self, item: &'ast syn::ImplItemFn) {
        self.within(&item.attrs, |reader| {
            visit::visit_impl_item_fn(reader, item);
        });
    }

    fn visit_item_mod(&mut self, item: &'ast ItemMod) {
        self.module.push(item.ident.to_string());
        if item.content.is_none() {
            if item.attrs.iter().any(|a| a.path().is_ident("path")) {
                let at = item.ident.span().start().line;
                let text = "`#[path]` hides where a module lies";
                self.faults.push(format!("{}:{at}: {text}", self.file));
            }
            self.children.push((self.module.clone(), self.test));
        }
        visit::visit_item_mod(self, item);
        self.module.pop();
    }

    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        self.say_tree(&[], &item.tree);
    }

    fn visit_item_extern_crate(&mut self, item: &'ast syn::ItemExternCrate) {
        self.say(vec![item.ident.to_string()], item.ident.span());
    }

    fn visit_expr_method_call(&mut self, call: &'ast syn::ExprMethodCall) {
        self.say(vec![call.method.to_string()], call.method.span());
        visit::visit_expr_method_call(self, call);
    }

    /// `pub(crate)` is no import.
    fn visit_vis_restricted(&mut self, _: &'ast syn::VisRestricted) {}

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let parts = path.segments.iter().map(|part| part.ident.to_string());
        if let Some(first) = path.segments.first() {
            self.say(parts.collect(), first.ident.span());
        }
        visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, invoked: &'ast syn::Macro) {
        self.say_tokens(invoked.tokens.clone());
        visit::visit_macro(self, invoked);
    }

    fn visit_meta_list(&mut self, list: &'ast syn::MetaList) {
        self.say_tokens(list.tokens.clone());
        visit::visit_meta_list(self, list);
    }
}

impl Said {
    /// Whether it is said in one of these modules, or below one.
    fn within(&self, modules: &[&str]) -> bool {
        modules.iter().any(|module| {
            let parts: Vec<&str> = module.split("::").collect();
            self.module.len() >= parts.len() && parts.iter().zip(&self.module).all(|(a, b)| a == b)
        })
    }

    /// A path within the crate leads to its own room, or to a lower layer.
    fn layer_fault(&self) -> Option<String> {
        if self.path.first()? != "crate" {
            return None;
        }
        let (place, path) = (&self.place, self.path.join("::"));
        let own = self.module.first()?;
        let other = self.path.get(1).map_or("", String::as_str);
        if own == other {
            return None;
        }
        let Some(far) = layer(other) else {
            return Some(format!("{place}: `{path}` names no module of the house"));
        };
        let near = layer(own)?;
        (far >= near).then(|| {
            format!("{place}: `{own}` (L{near}) imports `{path}` (L{far}), which is not below it")
        })
    }

    fn crate_fault(&self) -> Option<String> {
        let first = self.path.first()?;
        let named = |name: &str| *first == name || first.starts_with(&format!("{name}_"));
        let (name, modules) = CRATES.iter().find(|(name, _)| named(name) && !self.test)?;
        (!self.within(modules)).then(|| {
            let path = self.path.join("::");
            format!(
                "{}: `{path}`: only {} may name {name}",
                self.place,
                modules.join(", ")
            )
        })
    }

    fn name_fault(&self) -> Option<String> {
        let (name, modules) = NAMES
            .iter()
            .find(|(name, _)| self.path.iter().any(|part| part == name))?;
        (!self.test && !self.within(modules)).then(|| {
            format!(
                "{}: only {} may say `{name}`",
                self.place,
                modules.join(", ")
            )
        })
    }
}

fn layer(module: &str) -> Option<usize> {
    LAYERS.iter().position(|layer| layer.contains(&module))
}

/// A file that no `mod` leads to is compiled by nobody, and `mod.rs` hides in a list of tabs.
fn unreached(files: &BTreeMap<String, String>, house: &House) -> Vec<String> {
    let expected = |file: &&String| *file != "main.rs" && !house.files.contains(*file);
    files
        .keys()
        .filter(expected)
        .map(|file| {
            if file.ends_with("mod.rs") {
                format!("{file}: the house has no file of that name: use `x.rs` beside `x/`")
            } else {
                format!("{file}: no `mod` leads to this file")
            }
        })
        .collect()
}

/// The table and the house name the same rooms.
fn table(house: &House) -> Vec<String> {
    let planned: BTreeSet<String> = LAYERS
        .iter()
        .flat_map(|layer| layer.iter().map(|name| (*name).to_owned()))
        .collect();
    let missing = planned
        .difference(&house.top)
        .map(|name| format!("lib.rs: the module `{name}` of the table does not exist"));
    let new = house
        .top
        .difference(&planned)
        .map(|name| format!("lib.rs: the module `{name}` has no layer in the table"));
    missing.chain(new).collect()
}

/// Each proof is made in one place. Whatever is called `assertion` counts, so that no other name for a type hides it.
fn proofs(house: &House) -> Vec<String> {
    let claims = |said: &&Said| {
        !said.test
            && said.path.len() > 1
            && said.path.last().is_some_and(|name| name == "assertion")
    };
    let mut faults = Vec::new();
    let mut made = BTreeSet::new();
    for said in house.said.iter().filter(claims) {
        let path = said.path.join("::");
        let planned = PROOFS
            .iter()
            .find(|(proof, module)| path.ends_with(proof) && said.within(&[module]));
        if !planned.is_some_and(|(proof, _)| made.insert(*proof)) {
            faults.push(format!(
                "{}: `{path}` claims a proof in a second place",
                said.place
            ));
        }
    }
    let missing = PROOFS.iter().filter(|(proof, _)| !made.contains(proof));
    faults.extend(
        missing.map(|(proof, module)| format!("`{proof}` is made nowhere, not even in {module}")),
    );
    faults
}

mod a_check_finds {
    use super::*;

    /// A small house without a fault, with some files put in place of its own or beside them.
    fn house(changed: &[(&str, &str)]) -> Vec<String> {
        let mut files: BTreeMap<String, String> = BTreeMap::new();
        let mut lib = String::new();
        for module in LAYERS.iter().copied().flatten() {
            lib += &["pub mod ", module, ";\n"].concat();
            files.insert(format!("{module}.rs"), String::new());
        }
        let judge = "fn f() { crate::model::Permit::assertion(); }";
        let scheme =
            "use crate::model::VerifiedIdentity; fn f() { VerifiedIdentity::assertion(); }";
        for (file, text) in [
            ("lib.rs", lib.as_str()),
            ("policy.rs", "mod bundle; mod judge;"),
            ("policy/bundle.rs", "mod signature;"),
            (
                "policy/bundle/signature.rs",
                "fn f() { Verified::assertion(); }",
            ),
            ("policy/judge.rs", judge),
            ("identity.rs", "mod scheme;"),
            ("identity/scheme.rs", scheme),
        ]
        .iter()
        .chain(changed)
        {
            files.insert((*file).to_owned(), (*text).to_owned());
        }
        faults(&files)
    }

    fn assert_found(changed: &[(&str, &str)], expected: &str) {
        let found = house(changed);
        assert!(
            found.len() == 1 && found[0].contains(expected),
            "{changed:?} gives {found:#?}, expected `{expected}`"
        );
    }

    #[test]
    fn nothing_in_a_house_that_is_in_order() {
        assert_eq!(house(&[]), Vec::<String>::new());
    }

    #[test]
    fn an_import_from_above_in_every_form() {
        for text in [
            "use crate::pipeline::Pipeline;",
            "use crate::{model::Clock, pipeline};",
            "use super::pipeline;",
            "use self::super::pipeline as road;",
            "fn f(p: &crate::pipeline::Pipeline) {}",
            "fn f() { assert!(crate::pipeline::fresh()); }",
            "mod inner { use super::super::pipeline; }",
            "#[cfg(test)] mod tests { use crate::pipeline; }",
            "#[derive(Debug)] #[serde(default = crate::pipeline::fresh)] struct S;",
            "impl crate::pipeline::Road for () {}",
        ] {
            assert_found(
                &[("context.rs", text)],
                "`context` (L1) imports `crate::pipeline",
            );
        }
    }

    #[test]
    fn an_import_from_a_room_of_the_same_layer() {
        assert_found(
            &[("context.rs", "use crate::telemetry::Telemetry;")],
            "`context` (L1) imports `crate::telemetry::Telemetry` (L1)",
        );
        assert_found(
            &[
                ("envoy.rs", "mod a;"),
                ("envoy/a.rs", "mod b;"),
                ("envoy/a/b.rs", "use super::super::super::admin::X;"),
            ],
            "envoy/a/b.rs:1: `envoy` (L3) imports `crate::admin::X` (L3)",
        );
    }

    #[test]
    fn an_import_of_the_whole_crate() {
        assert_found(&[("app.rs", "use crate::*;")], "names no module");
        assert_found(&[("app.rs", "use crate as house;")], "names no module");
    }

    #[test]
    fn a_crate_that_stays_elsewhere() {
        for (file, text, expected) in [
            ("model.rs", "use tokio::sync::watch;", "only admin, app"),
            ("model.rs", "use tokio_util::sync::X;", "may name tokio"),
            ("model.rs", "async fn f() { tokio::select! {} }", "tokio"),
            ("model.rs", "fn f() -> tonic::Status {}", "may name tonic"),
            ("context.rs", "use cedar_policy::Entity;", "only policy"),
            (
                "pipeline.rs",
                "#[derive(prost::Message)] struct S;",
                "prost",
            ),
            ("app.rs", "extern crate prost_types;", "only envoy"),
            ("app.rs", "#[tonic::async_trait] impl X for Y {}", "tonic"),
        ] {
            assert_found(&[(file, text)], expected);
        }
        assert_eq!(
            house(&[("app.rs", "#[cfg(test)] use tonic::Status;")]),
            Vec::<String>::new()
        );
    }

    #[test]
    fn a_status_code_beside_the_one_table() {
        let text = "fn f() { let x = http::StatusCode::OK; }";
        assert_found(&[("pipeline.rs", text)], "may say `StatusCode`");
        assert_found(
            &[("envoy.rs", "mod check;"), ("envoy/check.rs", text)],
            "envoy/check.rs:1: only envoy::response",
        );
        assert_eq!(
            house(&[("envoy.rs", "mod response;"), ("envoy/response.rs", text)]),
            Vec::<String>::new()
        );
    }

    #[test]
    fn a_supposed_caller_on_the_way_of_a_real_one() {
        let text = "fn f() { policies.supposed(attributes); }";
        assert_found(&[("pipeline.rs", text)], "may say `supposed`");
        let text = "fn f() { g(Policies::supposed); h!(s.rehearse(x)); }";
        assert_eq!(house(&[("app.rs", text)]).len(), 2);
    }

    #[test]
    fn a_second_proof_or_none() {
        for second in [
            "use crate::model::Permit; fn f() { g(Permit::assertion()); }",
            "use crate::model::Permit as P; fn f() { P::assertion(); }",
            "use crate::model::Permit; fn f() { Some(()).map(Permit::assertion); }",
            "fn f() { vec![crate::model::Permit::assertion()]; }",
        ] {
            assert_found(&[("pipeline.rs", second)], "pipeline.rs:1: `");
            assert_found(&[("pipeline.rs", second)], "in a second place");
        }
        let own = "impl Permit { fn f() -> Self { Self::assertion() } }";
        assert_found(&[("model.rs", own)], "model.rs:1: `Self::assertion`");
        let twice =
            "fn f() { crate::model::Permit::assertion(); crate::model::Permit::assertion(); }";
        assert_found(&[("policy/judge.rs", twice)], "in a second place");
        assert_found(&[("policy/judge.rs", "")], "is made nowhere");
        let tested = "#[cfg(test)] mod tests { fn f() { crate::model::Permit::assertion(); } }";
        assert_eq!(house(&[("pipeline.rs", tested)]), Vec::<String>::new());
    }

    #[test]
    fn a_file_that_is_not_where_it_belongs() {
        assert_found(&[("context/mod.rs", "")], "no file of that name");
        assert_found(&[("context/lost.rs", "")], "no `mod` leads");
        assert_found(
            &[("context.rs", "mod gone;")],
            "context/gone.rs: the module",
        );
        assert_found(
            &[
                ("context.rs", "#[path = \"x.rs\"] mod net;"),
                ("context/net.rs", ""),
            ],
            "hides where a module lies",
        );
    }

    #[test]
    fn a_room_that_the_table_does_not_know_or_the_house_does_not_have() {
        let mut lib: String = LAYERS
            .iter()
            .copied()
            .flatten()
            .map(|module| format!("mod {module};\n"))
            .collect();
        lib.push_str("mod attic;");
        assert_found(
            &[("lib.rs", &lib), ("attic.rs", "")],
            "`attic` has no layer in the table",
        );
        let lib = lib.replace("mod attic;", "").replace("mod cli;", "");
        let found = house(&[("lib.rs", &lib)]);
        assert!(
            found
                .iter()
                .any(|fault| fault.contains("`cli` of the table")),
            "{found:?}"
        );
    }
}
