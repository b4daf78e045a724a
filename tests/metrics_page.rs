//! `docs/metrics.md` is the catalogue's. `FILMGATE_BLESS=1` writes it anew.

#![allow(clippy::expect_used)]

use filmgate::metrics::catalogue;

const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/metrics.md");

#[test]
fn the_page_is_what_the_catalogue_says() {
    let page = catalogue::markdown();
    if std::env::var_os("FILMGATE_BLESS").is_some() {
        std::fs::write(PAGE, &page).expect("docs can be written to");
    }
    let kept = std::fs::read_to_string(PAGE).unwrap_or_default();
    let how = "FILMGATE_BLESS=1 cargo test --test metrics_page";
    assert!(page == kept, "docs/metrics.md differs from src/metrics/catalogue; write it by {how}");
}
