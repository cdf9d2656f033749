//! Who knows whom.

use std::collections::BTreeSet;

use super::person::Reach;
use crate::draw::Draw;
use crate::scenario::{Friends, FriendsKind};

/// Pairs of people who are to meet: who invites, and who accepts. Two people behind routers cannot meet without a relay
/// and are left out.
pub(super) fn pairs(
    friends: &Friends,
    people: &[u32],
    reach: impl Fn(u32) -> Reach,
    seed: u64,
) -> Vec<(u32, u32)> {
    let mut draw = Draw::new(seed, "friends", 0);
    let mut pairs = BTreeSet::new();
    let mut join = |a: u32, b: u32| {
        // who can be reached invites
        let (host, guest) = if reach(a) == Reach::Routed { (b, a) } else { (a, b) };
        if a != b && reach(host) != Reach::Routed && !pairs.contains(&(guest, host)) {
            pairs.insert((host, guest));
        }
    };
    let n = people.len();
    let degree = (friends.degree as usize).min(n.saturating_sub(1));
    for (i, &a) in people.iter().enumerate() {
        match friends.kind {
            FriendsKind::Ring => (1..=degree).for_each(|k| join(a, people[(i + k) % n])),
            // half of them, so that each has about so many in all
            FriendsKind::Random => (0..degree.div_ceil(2)).for_each(|_| join(a, people[draw.below(n)])),
            FriendsKind::Pairs if i % 2 == 1 => join(people[i - 1], a),
            FriendsKind::Star if i > 0 => join(people[0], a),
            FriendsKind::Pairs | FriendsKind::Star => {}
        }
    }
    // nobody is left alone by chance
    for (i, &a) in people.iter().enumerate() {
        if friends.kind == FriendsKind::Random && !pairs.iter().any(|(b, c)| *b == a || *c == a) {
            let other = people
                .iter()
                .cycle()
                .skip(i + 1)
                .take(n.saturating_sub(1))
                .find(|b| reach(a) != Reach::Routed || reach(**b) != Reach::Routed);
            if let Some(&b) = other {
                let (host, guest) = if reach(a) == Reach::Routed { (b, a) } else { (a, b) };
                pairs.insert((host, guest));
            }
        }
    }
    pairs.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn graph(kind: FriendsKind, degree: u32, n: u32) -> Vec<(u32, u32)> {
        let people: Vec<u32> = (0..n).collect();
        pairs(&Friends { kind, degree, bootstrap_too: true }, &people, |_| Reach::Public, 1)
    }

    #[test]
    fn graphs_have_the_shape_of_their_name() {
        assert_eq!(graph(FriendsKind::Pairs, 1, 4), [(0, 1), (2, 3)]);
        assert_eq!(graph(FriendsKind::Star, 1, 4), [(0, 1), (0, 2), (0, 3)]);
        assert_eq!(graph(FriendsKind::Ring, 1, 3).len(), 3);
        assert_eq!(graph(FriendsKind::Ring, 1, 2).len(), 1);
        let random = graph(FriendsKind::Random, 3, 50);
        assert!((0..50).all(|a| random.iter().any(|(b, c)| *b == a || *c == a)));
        assert!(random.len() >= 50);
    }

    #[test]
    fn two_behind_routers_do_not_meet_and_who_can_be_reached_invites() {
        let reach = |host| if host == 0 { Reach::Public } else { Reach::Routed };
        let friends = Friends { kind: FriendsKind::Ring, degree: 2, bootstrap_too: true };
        let pairs = pairs(&friends, &[0, 1, 2], reach, 1);
        assert_eq!(pairs, [(0, 1), (0, 2)]);
    }
}
