//! Templates linked to principals and resources: one rule, many grants, each a line in a file.
//!
//! A template is a policy with `?principal` or `?resource` in its scope and an `@id`. A file below `links/` (or named
//! `*.links.yaml`) fills the slots:
//!
//! ```yaml
//! - id: orders-for-alice
//!   template: orders-of-one-user
//!   principal: { type: "Cardea::User", id: "https://login.example.com|alice" }
//! ```

use std::collections::{BTreeSet, HashMap};
use std::path::PathBuf;
use std::sync::Arc;

use cedar_policy::{EntityId, EntityTypeName, EntityUid, PolicyId, SlotId, Template};
use serde::Deserialize;
use serde_saphyr::Spanned;

use super::bounds::{Limit, MAX_POLICIES};
use super::bundle::Document;
use super::source::{Sources, check_name};
use crate::model::{Problem, yaml};

/// One link, as written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Link {
    id: String,
    template: String,
    principal: Option<EntityReference>,
    resource: Option<EntityReference>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct EntityReference {
    r#type: String,
    id: String,
}

/// The templates of a bundle, and where each stands.
#[derive(Debug, Default)]
pub(super) struct Templates {
    known: HashMap<String, (PathBuf, usize, usize)>,
    linked: BTreeSet<String>,
}

impl Templates {
    /// Takes a template in. It needs an `@id`, since links name it.
    pub(super) fn add(
        &mut self,
        sources: &mut Sources,
        template: &Template,
        place: (PathBuf, usize, usize),
    ) -> Result<(), Vec<String>> {
        let Some(name) = template.annotation("id").map(str::to_owned) else {
            return Err(vec![
                "a template needs an `@id`, which links name it by".to_owned(),
            ]);
        };
        check_name(&name)?;
        sources
            .set
            .add_template(template.new_id(PolicyId::new(&name)))
            .map_err(|_| {
                vec![format!(
                    "the policy id `{name}` is taken: ids are unique over all files"
                )]
            })?;
        sources.places.insert(name.as_str().into(), place.clone());
        self.known.insert(name, place);
        Ok(())
    }

    /// Links what the files say.
    pub(super) fn link(&mut self, sources: &mut Sources, documents: &[Document]) -> Vec<Problem> {
        let mut problems = Vec::new();
        for document in documents {
            let links: Vec<Spanned<Link>> = match yaml::parse(&document.text) {
                Ok(links) => links,
                Err(problem) => {
                    problems.push(problem.in_file(&document.path));
                    continue;
                }
            };
            for link in &links {
                if sources.places.len() >= MAX_POLICIES {
                    problems.push(Limit::Policies.problem().in_file(&document.path));
                    return problems;
                }
                let (line, column) = yaml::place(link.referenced).unwrap_or((1, 1));
                let place = (document.path.clone(), line, column);
                if let Err(wrong) = self.link_one(sources, &link.value, &place) {
                    let at = |message| {
                        Problem::new(message)
                            .in_file(&document.path)
                            .at(line, column)
                    };
                    problems.extend(wrong.into_iter().map(at));
                }
            }
        }
        problems
    }

    fn link_one(
        &mut self,
        sources: &mut Sources,
        link: &Link,
        place: &(PathBuf, usize, usize),
    ) -> Result<(), Vec<String>> {
        check_name(&link.id)?;
        if !self.known.contains_key(&link.template) {
            return Err(vec![format!("no template has the id `{}`", link.template)]);
        }
        let slots = [
            (SlotId::principal(), &link.principal),
            (SlotId::resource(), &link.resource),
        ];
        let mut values = HashMap::new();
        for (slot, entity) in slots {
            if let Some(entity) = entity {
                values.insert(slot, uid(entity)?);
            }
        }
        let id = PolicyId::new(&link.id);
        sources
            .set
            .link(PolicyId::new(&link.template), id.clone(), values)
            .map_err(|error| vec![format!("`{}` cannot be linked: {error}", link.id)])?;
        self.linked.insert(link.template.clone());
        sources.take(&id, place.clone())
    }

    /// Templates that nothing links: they would never apply.
    pub(super) fn unlinked(&self) -> Vec<Problem> {
        let unlinked = self
            .known
            .iter()
            .filter(|(name, _)| !self.linked.contains(*name));
        let mut problems: Vec<Problem> = unlinked
            .map(|(_, (file, line, column))| {
                Problem::new("a template that nothing links would never apply")
                    .in_file(file)
                    .at(*line, *column)
                    .hint("link it in a file below `links/`, or write it as a policy")
            })
            .collect();
        problems.sort();
        problems
    }
}

fn uid(entity: &EntityReference) -> Result<EntityUid, Vec<String>> {
    let name: EntityTypeName = entity
        .r#type
        .parse()
        .map_err(|_| vec![format!("`{}` is no entity type", entity.r#type)])?;
    Ok(EntityUid::from_type_name_and_id(
        name,
        EntityId::new(&entity.id),
    ))
}

/// Where a policy stands.
pub(super) type Places = HashMap<Arc<str>, (PathBuf, usize, usize)>;
