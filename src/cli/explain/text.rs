//! An explanation for people: the answer first, then what it stands on.

use super::told::{Told, Unjudged};
use crate::cli::paint::Paint;
use crate::model::shown;
use crate::policy::{Clause, Explanation, Fact, Nearest, PolicyView, State};
use crate::rehearsal::record::{RecordedCaller, RecordedRequest, Verdict};

/// The longest value that is shown, in bytes.
const MAX_VALUE: usize = 240;
/// The most lines of a policy that are shown.
const MAX_LINES: usize = 40;

/// The explanation as text.
pub(super) fn render(told: &Told, paint: Paint) -> String {
    let mut page = Page {
        out: String::new(),
        paint,
    };
    page.answer(told);
    page.circumstances(told);
    match &told.why {
        Some(why) => page.why(told, why),
        None => page.heading("It was refused before policies were asked"),
    }
    page.aside(told);
    page.out
}

/// A recorded decision that cannot be judged again, as text.
pub(super) fn unjudged(told: &Unjudged<'_>, paint: Paint) -> String {
    let mut page = Page {
        out: String::new(),
        paint,
    };
    let record = told.recorded;
    let allowed = record.verdict == Verdict::Allow;
    page.verdict(allowed, record.status, &shown(&record.reason, MAX_VALUE));
    if !record.detail.is_empty() {
        page.line(&shown(&record.detail, MAX_VALUE));
    }
    page.line("");
    if let Some(request) = &record.request {
        page.request(request);
    }
    if let Some(caller) = &record.caller {
        page.caller(caller, "recorded");
    }
    page.field("time", &record.time.to_string());
    if let Some(bundle) = &record.snapshot {
        page.field("bundle", &shown(bundle, MAX_VALUE));
    }
    page.field("decision", &record.id);
    page.heading("It cannot be judged again");
    page.line(&format!("  {}", told.because));
    page.out
}

/// A page that grows. Writing to a string cannot fail.
struct Page {
    out: String,
    paint: Paint,
}

impl Page {
    fn line(&mut self, text: &str) {
        self.out.push_str(text.trim_end());
        self.out.push('\n');
    }

    fn heading(&mut self, text: &str) {
        self.line("");
        let text = self.paint.bold(text);
        self.line(&text);
    }

    fn verdict(&mut self, allowed: bool, status: u16, reason: &str) {
        let word = if allowed {
            self.paint.good("ALLOW")
        } else {
            self.paint.bad("DENY")
        };
        self.line(&format!("{word}  {status} {reason}"));
    }

    /// The answer, in one line, and why in one sentence.
    fn answer(&mut self, told: &Told) {
        let decided = &told.decided;
        self.verdict(decided.allowed(), decided.status(), decided.reason());
        if let Some(reason) = decided.would_be() {
            self.line(&format!(
                "it passes only because its operation is observed; else: {reason}"
            ));
        }
        if !decided.detail().is_empty() {
            self.line(decided.detail());
        }
        if let Some(said) = &told.said {
            self.line(&format!("the caller is told: {said}"));
        }
        self.line("");
    }

    fn field(&mut self, name: &str, value: &str) {
        let name = self.paint.dim(&format!("{name:<11}"));
        self.line(&format!("{name}{value}"));
    }

    fn request(&mut self, request: &RecordedRequest) {
        let what = format!(
            "{} {}://{}{}",
            request.method, request.scheme, request.host, request.path
        );
        self.field("request", &shown(&what, MAX_VALUE));
        if !request.query.is_empty() {
            let names = format!("query parameters {}", request.query.join(", "));
            let names = shown(&names, MAX_VALUE);
            self.field("", &format!("{names} (values are not kept)"));
        }
    }

    fn circumstances(&mut self, told: &Told) {
        if let Some(request) = &told.request {
            self.request(request);
        }
        if let Some(route) = &told.route {
            self.field(
                "operation",
                &format!("{}  {route}", told.decided.operation()),
            );
        }
        if let Some(caller) = &told.caller {
            self.caller(caller, told.caller_is.unwrap_or_default());
        }
        self.field("time", &told.time.to_string());
        self.field("bundle", told.decided.snapshot());
        if let Some(then) = &told.recorded {
            self.field("decision", &then.id);
        }
    }

    fn caller(&mut self, caller: &RecordedCaller, how: &str) {
        let RecordedCaller::Known(known) = caller else {
            return self.field("caller", "anonymous: no credential was presented");
        };
        let who = format!("{} {}", caller.kind(), shown(&caller.id(), MAX_VALUE));
        self.field("caller", &format!("{who}  ({how}, {})", known.scheme));
        if let Some(on_behalf) = &known.on_behalf {
            let subject = &on_behalf.subject;
            let who = format!("on behalf of {}|{}", subject.issuer, subject.subject);
            self.field("", &shown(&who, MAX_VALUE));
        }
        let lists = [
            ("roles", &known.roles),
            ("groups", &known.groups),
            ("scopes", &known.scopes),
            ("audience", &known.audience),
            ("login by", &known.amr),
        ];
        let lists = lists.into_iter().filter(|(_, list)| !list.is_empty());
        let mut words: Vec<String> = lists
            .map(|(name, list)| format!("{name} {}", list.join(" ")))
            .collect();
        words.extend(known.tenant.iter().map(|tenant| format!("tenant {tenant}")));
        if known.assurance > 0 {
            words.push(format!("assurance {}", known.assurance));
        }
        if known.mfa {
            words.push("login by more than one factor".to_owned());
        }
        words.extend(known.auth_time.iter().map(|at| format!("login at {at}")));
        for word in words {
            self.field("", &shown(&word, MAX_VALUE));
        }
    }

    fn why(&mut self, told: &Told, why: &Explanation) {
        let failed = |view: &&PolicyView| told.decided.failed(&view.id);
        let spoke: Vec<_> = why.policies.iter().filter(|view| !failed(view)).collect();
        if !spoke.is_empty() {
            // Where somebody else has to be permitted too, this alone decides nothing.
            self.heading(if why.subject.is_some() {
                "Of the caller alone: decided by"
            } else {
                "Decided by"
            });
            for view in spoke {
                self.policy(view);
            }
        }
        if why.policies.iter().any(|view| failed(&view)) {
            self.heading("Could not be evaluated");
            for view in why.policies.iter().filter(failed) {
                self.policy(view);
                for message in told.decided.messages(&view.id) {
                    let message = self.paint.bad(&shown(message, MAX_VALUE));
                    self.line(&format!("    error: {message}"));
                }
            }
        }
        if let Some(offer) = &why.step_up {
            let offered = if offer.offered {
                "offered"
            } else {
                "not offered"
            };
            self.heading(&format!("A better login is {offered}"));
            self.line(&format!("  {}", offer.because));
            if let Some(login) = told.decided.login() {
                self.line(&format!("  it would have to be: {login}"));
            }
        }
        if !why.nearest.is_empty() {
            self.heading("No permit applied; the nearest, and what each lacked");
            for nearest in &why.nearest {
                self.nearest(nearest);
            }
        } else if why.policies.is_empty() {
            self.heading("No permit is about this operation");
        }
        if let Some(subject) = &why.subject {
            let who = shown(&subject.principal, MAX_VALUE).into_owned();
            self.heading(&format!("The caller acts for {who}: {}", subject.reason));
            self.why(told, subject);
        }
    }

    fn policy(&mut self, view: &PolicyView) {
        self.title(view);
        self.source(view);
        self.clauses(&view.clauses, 4);
    }

    fn nearest(&mut self, nearest: &Nearest) {
        self.title(&nearest.policy);
        for change in &nearest.changes {
            let change = self.paint.warning(&shown(change, MAX_VALUE));
            self.line(&format!("    needs {change}"));
        }
        self.clauses(&nearest.policy.clauses, 4);
    }

    fn title(&mut self, view: &PolicyView) {
        let file = view.file.display().to_string();
        let place = self
            .paint
            .dim(&format!("{}:{}", shown(&file, MAX_VALUE), view.line));
        let id = self.paint.bold(&view.id);
        let link = if view.verbatim {
            ""
        } else {
            "  (a linked template)"
        };
        self.line(&format!("  {} {id}  {place}{link}", view.effect));
    }

    /// The policy's text, with the numbers of its lines where it stands in a file as it is.
    fn source(&mut self, view: &PolicyView) {
        let lines: Vec<&str> = view.source.lines().collect();
        let last = view.line + lines.len().min(MAX_LINES);
        let width = last.to_string().len();
        for (number, line) in (view.line..).zip(&lines).take(MAX_LINES) {
            let number = if view.verbatim {
                number.to_string()
            } else {
                String::new()
            };
            let line = shown(line, MAX_VALUE);
            let line = self.paint.dim(&format!("{number:>width$} | {line}"));
            self.line(&format!("    {line}"));
        }
        if lines.len() > MAX_LINES {
            self.line(&format!("    .. {} more lines", lines.len() - MAX_LINES));
        }
    }

    fn clauses(&mut self, clauses: &[Clause], indent: usize) {
        for clause in clauses {
            let (mark, text) = (self.mark(clause.state), shown(&clause.text, MAX_VALUE));
            // The parts say the same, one by one.
            let text = if clause.parts.is_empty() {
                text.into_owned()
            } else {
                "unless all of".to_owned()
            };
            self.line(&format!("{:indent$}{mark} {text}", ""));
            if let Some(error) = &clause.error {
                let error = self.paint.bad(&shown(error, MAX_VALUE));
                self.line(&format!("{:indent$}    {error}", ""));
            }
            self.clauses(&clause.parts, indent + 4);
            self.facts(&clause.facts, indent + 4);
        }
    }

    fn mark(&self, state: State) -> String {
        match state {
            State::Held => self.paint.good("\u{2713}"),
            State::Failed => self.paint.bad("\u{2717}"),
            State::Error => self.paint.bad("!"),
            State::NotReached => self.paint.dim("-"),
        }
    }

    fn facts(&mut self, facts: &[Fact], indent: usize) {
        let value = |fact: &Fact| match &fact.value {
            Some(value) => shown(value, MAX_VALUE).into_owned(),
            None => "absent".to_owned(),
        };
        let widest = |of: &dyn Fn(&Fact) -> usize| facts.iter().map(of).max().unwrap_or(0);
        let paths = widest(&|fact| fact.path.chars().count());
        let values = widest(&|fact| value(fact).chars().count()).min(48);
        for fact in facts {
            let origin = self.paint.dim(&format!("from {}", fact.origin));
            let (path, value) = (&fact.path, value(fact));
            self.line(&format!(
                "{:indent$}{path:<paths$} = {value:<values$}  {origin}",
                ""
            ));
        }
    }

    /// What is beside the answer.
    fn aside(&mut self, told: &Told) {
        if told.severity.is_some() || !told.obligations.is_empty() || !told.controls.is_empty() {
            self.heading("Noted");
        }
        if let Some(severity) = told.severity {
            self.line(&format!("  severity {severity}"));
        }
        for duty in &told.obligations {
            self.line(&format!("  obligation {duty}"));
        }
        for control in &told.controls {
            self.line(&format!("  control {control}"));
        }
        if let Some(shadow) = &told.shadow {
            self.heading("With the policies in shadow mode it would be otherwise");
            let by = shadow.policies.join(", ");
            self.line(&format!(
                "  {} {}, by [{by}]",
                shadow.verdict, shadow.reason
            ));
        }
        let Some(then) = &told.recorded else { return };
        let by = shown(&then.policies.join(", "), MAX_VALUE).into_owned();
        let reason = shown(&then.reason, MAX_VALUE);
        self.heading(if then.same {
            "It was decided so then, too"
        } else {
            "It was decided otherwise then"
        });
        self.line(&format!("  {} {reason}, by [{by}]", then.status));
        let bundle = then.snapshot.as_deref();
        if let Some(other) = bundle.filter(|id| *id != told.decided.snapshot()) {
            let other = shown(other, MAX_VALUE);
            self.line(&format!("  under another bundle: {other}"));
        }
    }
}
