//! The promises of the configuration.

use super::*;

fn load(file: &str, env: &[(&str, &str)], flags: &[&str]) -> Result<Loaded, Faults> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("nightgate.toml");
    std::fs::write(&path, file).unwrap();
    let own = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    Config::load(&Sources {
        file: ConfigFile::Named(path),
        env: env.iter().map(own).collect(),
        flags: flags.iter().map(|&flag| flag.to_owned()).collect(),
    })
}

fn config(file: &str) -> Config {
    load(file, &[], &[])
        .unwrap_or_else(|faults| panic!("{faults}"))
        .config
}

#[test]
fn the_default_file_parses_and_checks_clean() {
    assert!(DEFAULT_TOML.parse::<toml::Table>().is_ok());
    let loaded = Config::load(&Sources::default()).unwrap_or_else(|faults| panic!("{faults}"));
    assert_eq!(loaded.config.lanes.len(), 1);
    assert_eq!(loaded.config.lanes[0].name, "main");
    assert_eq!(loaded.config.http.listen.port(), 8787);
    assert!(
        loaded
            .settings
            .iter()
            .all(|setting| setting.origin == Origin::Default)
    );
    let _ = config("");
}
