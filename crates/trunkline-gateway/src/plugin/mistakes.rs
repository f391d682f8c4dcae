//! All that is wrong with a plugin's settings, and not the first of it alone.

use serde_json::Value;

use super::{Making, Mistake};

/// More mistakes of one plugin are not looked for.
const MISTAKES_MAX: usize = 20;

impl Making<'_> {
    /// The mistake that was found, and those that are found when what is wrong is left out. Those that speak of no field are
    /// not among the latter: what was left out may be what is missing.
    pub(crate) fn mistakes(&self, name: &str, config: &Value, first: Mistake) -> Vec<Mistake> {
        let (mut config, mut all) = (config.clone(), vec![first]);
        while all.len() < MISTAKES_MAX
            && let Some((at, _)) = all.last()
            && leave_out(&mut config, at).is_some()
            && let Some((_, Err(next))) = self.make(name, || config.clone(), None)
            && !next.0.is_empty()
            && all.iter().all(|(at, _)| *at != next.0)
        {
            all.push(next);
        }
        all
    }
}

/// Takes the field away that a path such as `redis.host` or `origins[1]` leads to, a list as a whole.
fn leave_out(config: &mut Value, path: &str) -> Option<Value> {
    let path = path.split('[').next().unwrap_or(path);
    let (outer, field) = match path.rsplit_once('.') {
        Some((outer, field)) => (Some(outer), field),
        None => (None, path),
    };
    let mut steps = outer.into_iter().flat_map(|outer| outer.split('.'));
    let inside = steps.try_fold(config, |value, step| value.get_mut(step))?;
    inside.as_object_mut()?.remove(field)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_field_is_left_out_by_its_path() {
        let config = json!({ "a": 1, "b": { "c": [1, 2], "d": 3 } });
        for (path, left) in [
            ("a", json!({ "b": { "c": [1, 2], "d": 3 } })),
            ("b.d", json!({ "a": 1, "b": { "c": [1, 2] } })),
            ("b.c[1]", json!({ "a": 1, "b": { "d": 3 } })),
            ("b.c[1].e", json!({ "a": 1, "b": { "d": 3 } })),
        ] {
            let mut config = config.clone();
            leave_out(&mut config, path).unwrap();
            assert_eq!(config, left, "{path}");
        }
        for path in ["", "x", "b.x", "x.y", "a.y"] {
            assert_eq!(leave_out(&mut config.clone(), path), None, "{path}");
        }
    }
}
