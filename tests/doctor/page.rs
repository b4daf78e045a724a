//! docs/troubleshooting.md has a section on each check, in their order.

use filmgate::doctor::checks::CHECKS;

const PAGE: &str = include_str!("../../docs/troubleshooting.md");

#[test]
fn the_page_has_a_section_on_each_check() {
    let heads = PAGE.lines().filter_map(|line| line.strip_prefix("### `")?.strip_suffix('`'));
    let checks = CHECKS.iter().map(|check| check.name);
    assert_eq!(Vec::from_iter(heads), Vec::from_iter(checks));
}
