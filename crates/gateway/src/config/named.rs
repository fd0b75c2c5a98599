//! Sections below which the user chooses names: `[lane.NAME]`, `[source.NAME]`.

/// Such a section.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Group {
    /// Its name.
    pub(super) name: &'static str,
    /// The name whose keys stand, in the default file, for those of every name.
    pub(super) exemplar: &'static str,
    /// Whether the exemplar is there when nobody configures a name. If not, it is never there: the
    /// default file itself must be a configuration.
    pub(super) standing: bool,
}

/// Messages always have a way out; ways in beside HTTP must be asked for.
pub(super) static GROUPS: [Group; 2] = [
    Group {
        name: LANE,
        exemplar: "main",
        standing: true,
    },
    Group {
        name: SOURCE,
        exemplar: "example",
        standing: false,
    },
];

/// The section of lanes.
pub(super) const LANE: &str = "lane";
/// The section of sources.
pub(super) const SOURCE: &str = "source";
/// Longest name, in bytes: it stands in every metric and log line.
const NAME_MAX_BYTES: usize = 32;

/// The section and the name that a key belongs to: `lane.kakao.rate` is of `lane`, `kakao`.
pub(super) fn named(key: &str) -> Option<(&'static Group, &str)> {
    let (section, below) = key.split_once('.')?;
    let group = GROUPS.iter().find(|group| group.name == section)?;
    Some((group, below.split('.').next()?))
}

/// `lane.NAME.rate` -> `lane.*.rate`.
pub(super) fn general(key: &str) -> String {
    let Some((group, name)) = named(key) else {
        return key.to_owned();
    };
    let rest = &key[group.name.len() + 1 + name.len()..];
    format!("{}.*{rest}", group.name)
}

/// Checks a name.
///
/// # Errors
/// The rule it breaks.
pub(super) fn check_name(group: &Group, name: &str) -> Result<(), String> {
    let fits = name.len() <= NAME_MAX_BYTES
        && name.starts_with(|first: char| first.is_ascii_lowercase())
        && name
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
        && !name.contains("__");
    fits.then_some(()).ok_or_else(|| {
        format!(
            "is no name for a {}: a lower-case letter, then lower-case letters, digits or single \
             `_`, {NAME_MAX_BYTES} at most",
            group.name
        )
    })
}
