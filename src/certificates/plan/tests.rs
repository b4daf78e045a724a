use jiff::ToSpan as _;

use super::super::issue;
use super::super::material::{AUTHORITIES, CERTIFICATE, Data, KEY};
use super::*;

fn start() -> Timestamp {
    "2030-01-01T00:00:00Z".parse().unwrap()
}

fn after(hours: i64) -> Timestamp {
    start() + hours.hours()
}

fn days(days: i64) -> Timestamp {
    after(days * DAY)
}

fn server() -> Subject {
    Subject::Server(vec!["a.filmgate.svc".to_owned(), "a".to_owned()])
}

fn leaf(authority: &Pair, at: Timestamp) -> Pair {
    issue::leaf(authority, &server(), at).unwrap()
}

fn authority(at: Timestamp) -> Pair {
    issue::authority(at).unwrap()
}

/// What is due of a leaf, with an authority that was published at that hour.
fn due(
    current: Option<&Pair>,
    subject: &Subject,
    signs: &Pair,
    published: Option<Timestamp>,
    now: Timestamp,
) -> Option<Due> {
    let believed = [signs.certificate.clone()];
    let signs = Authority { certificate: &signs.certificate, published };
    leaf_due(current, subject, signs, &believed, now)
}

#[test]
fn an_authority_is_renewed_when_two_thirds_of_its_life_are_over() {
    let current = authority(start());
    let is_due = |now| authority_due(Some(&current), now);
    assert_eq!(authority_due(None, start()), Some(Due::Missing));
    assert_eq!(is_due(start()), None);
    assert_eq!(is_due(days(2_433)), None);
    assert_eq!(is_due(days(2_434)), Some(Due::Ageing));
    assert_eq!(is_due(days(5_000)), Some(Due::Ageing));
    assert_eq!(is_due(after(-2)), Some(Due::NotYetValid));
    assert_eq!(authority_due(Some(&leaf(&current, start())), start()), Some(Due::Missing));
}

#[test]
fn what_an_authority_signs_ends_before_it() {
    let last_moment = AUTHORITY_LIFE / 3 * 2;
    assert!(last_moment + LEAF_LIFE < AUTHORITY_LIFE);
}

#[test]
fn a_leaf_is_renewed_when_it_ages_or_is_for_somebody_else() {
    let signs = authority(start());
    let current = leaf(&signs, start());
    let published = Some(start());
    let is_due = |subject: &Subject, now| due(Some(&current), subject, &signs, published, now);
    assert_eq!(due(None, &server(), &signs, published, start()), Some(Due::Missing));
    assert_eq!(is_due(&server(), start()), None);
    let other_order = Subject::Server(vec!["a".to_owned(), "a.filmgate.svc".to_owned()]);
    assert_eq!(is_due(&other_order, start()), None);
    assert_eq!(is_due(&server(), days(59)), None);
    assert_eq!(is_due(&server(), days(60)), Some(Due::Ageing));
    assert_eq!(is_due(&server(), after(-2)), Some(Due::NotYetValid));
    let others = [Subject::Server(vec!["a".to_owned()]), Subject::Client("a".to_owned())];
    for other in others {
        assert_eq!(is_due(&other, start()), Some(Due::OtherSubject), "{other:?}");
    }
    let stranger = authority(start());
    let signed_by_stranger = leaf(&stranger, start());
    let is_due = due(Some(&signed_by_stranger), &server(), &signs, published, start());
    assert_eq!(is_due, Some(Due::OtherAuthority));
}

#[test]
fn a_leaf_moves_to_a_new_authority_when_everyone_has_believed_it_for_a_while() {
    let (old, new) = (authority(start()), authority(days(2_434)));
    let believed = [new.certificate.clone(), old.certificate.clone()];
    let is_due = |made, published, now| {
        let signs = Authority { certificate: &new.certificate, published };
        leaf_due(Some(&leaf(&old, made)), &server(), signs, &believed, now)
    };
    let published = days(2_434);
    let (young, ageing) = (days(2_430), days(2_434 - 61));
    for made in [young, ageing] {
        assert_eq!(is_due(made, None, days(2_440)), None, "nobody has been told");
        assert_eq!(is_due(made, Some(published), published), None);
        assert_eq!(is_due(made, Some(published), published + 59.minutes()), None);
    }
    let settled = published + 1.hour();
    assert_eq!(is_due(young, Some(published), settled), Some(Due::Succeeded));
    assert_eq!(is_due(ageing, Some(published), settled), Some(Due::Ageing));
    // It would end meanwhile.
    let ending = published - LEAF_LIFE + SignedDuration::from_mins(90);
    assert_eq!(is_due(ending, None, published), Some(Due::Ageing));
}

#[test]
fn a_predecessor_is_believed_until_the_last_leaf_has_moved_and_that_is_known() {
    let (old, new) = (authority(start()), authority(days(2_434)));
    let known = [old.certificate.clone()];
    let both = [new.certificate.clone(), old.certificate.clone()];
    let believed = |leaves: &[&Pair], now| {
        let leaves: Vec<_> = leaves.iter().map(|pair| &pair.certificate).collect();
        believed(&new.certificate, &known, &leaves, now)
    };
    let moved_at = days(2_435);
    let (stays, moved) = (leaf(&old, days(2_430)), leaf(&new, moved_at));
    assert_eq!(believed(&[&stays, &moved], days(2_440)), both);
    assert_eq!(believed(&[&moved], moved_at + 59.minutes()), both);
    assert_eq!(believed(&[&moved], moved_at + 1.hour()), std::slice::from_ref(&new.certificate));
    assert_eq!(
        believed(&[&stays], days(3_651)),
        std::slice::from_ref(&new.certificate),
        "it has ended"
    );
}

#[test]
fn nothing_but_authorities_is_believed() {
    let (signs, other) = (authority(start()), authority(start()));
    let own = leaf(&other, start());
    let known = [own.certificate.clone(), signs.certificate.clone()];
    let believed = believed(&signs.certificate, &known, &[&own.certificate], start());
    assert_eq!(believed, [signs.certificate]);
}

fn data(pair: &Pair) -> Data {
    let mut data = Data::new();
    pair.put_into(&mut data);
    data
}

#[test]
fn what_was_put_into_a_secret_is_found_there_again() {
    let signs = authority(start());
    let pair = leaf(&signs, start());
    let found = Pair::in_data(&data(&pair)).unwrap();
    assert_eq!(found.certificate, pair.certificate);
    assert_eq!(found.certificate.dns_names.len(), 2);
    assert!(found.certificate.is_signed_by(&signs.certificate));
    assert!(!found.certificate.is_signed_by(&authority(start()).certificate));
}

#[test]
fn what_is_no_pair_is_not_there() {
    let signs = authority(start());
    let (one, other) = (data(&leaf(&signs, start())), data(&leaf(&signs, start())));
    assert!(Pair::in_data(&Data::new()).is_none());
    for key in [CERTIFICATE, KEY] {
        let mut mixed = one.clone();
        mixed.insert(key.to_owned(), other[key].clone());
        assert!(Pair::in_data(&mixed).is_none(), "another's {key}");
        mixed.get_mut(key).unwrap().0.truncate(40);
        assert!(Pair::in_data(&mixed).is_none(), "half of {key}");
        mixed.remove(key);
        assert!(Pair::in_data(&mixed).is_none(), "no {key}");
    }
    assert!(!one.contains_key(AUTHORITIES));
}

#[test]
fn no_text_shows_a_key() {
    let signs = authority(start());
    let shown = format!("{signs:?} {:?}", leaf(&signs, start()));
    assert!(shown.contains("Key(hidden)"), "{shown}");
    let secret = String::from_utf8(data(&signs)[KEY].0.clone()).unwrap();
    let line = secret.lines().nth(1).unwrap();
    assert!(!shown.contains(line) && !shown.contains("PRIVATE"), "{shown}");
}
