//! Which address was answered for which name, and until when.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::time::{Duration, Instant};
use vmint_model::HostName;

/// The most pairs of name and address that are remembered.
pub const MOST: usize = 4096;
/// How long an answer is good at least, whatever its name server says: programs ask, and connect a moment later.
pub const SHORTEST: Duration = Duration::from_secs(60);
/// How long it is good at most.
pub const LONGEST: Duration = Duration::from_secs(3600);

/// How long an answer with this time to live is good.
pub fn life(ttl: u32) -> Duration {
    Duration::from_secs(u64::from(ttl)).clamp(SHORTEST, LONGEST)
}

/// The answers that a guest was given and that live. Never more than a number of them; the one that would die first goes first.
#[derive(Debug)]
pub struct Answers {
    most: usize,
    by_address: HashMap<IpAddr, BTreeMap<HostName, Instant>>,
    by_end: BTreeSet<(Instant, IpAddr, HostName)>,
}

impl Default for Answers {
    fn default() -> Self {
        Self::with_room_for(MOST)
    }
}

impl Answers {
    /// A table of at most this many pairs.
    pub fn with_room_for(most: usize) -> Self {
        Self {
            most: most.max(1),
            by_address: HashMap::new(),
            by_end: BTreeSet::new(),
        }
    }

    /// How many pairs there are, the dead included that nobody has looked for.
    pub fn len(&self) -> usize {
        self.by_end.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.by_end.is_empty()
    }

    /// Remembers that `name` has this address until then. An answer that lives longer stays.
    pub fn remember(&mut self, name: &HostName, ip: IpAddr, until: Instant, now: Instant) {
        let ip = ip.to_canonical();
        let known = self
            .by_address
            .get(&ip)
            .and_then(|names| names.get(name))
            .copied();
        match known {
            Some(end) if end >= until => return,
            Some(end) => {
                self.by_end.remove(&(end, ip, name.clone()));
            }
            None => self.make_room(now),
        }
        self.by_end.insert((until, ip, name.clone()));
        self.by_address
            .entry(ip)
            .or_default()
            .insert(name.clone(), until);
    }

    /// The names that live for an address.
    pub fn names(&self, ip: IpAddr, now: Instant) -> impl Iterator<Item = &HostName> {
        let names = self
            .by_address
            .get(&ip.to_canonical())
            .into_iter()
            .flatten();
        names.filter_map(move |(name, end)| (*end > now).then_some(name))
    }

    /// Whether this pair lives.
    pub fn has(&self, name: &HostName, ip: IpAddr, now: Instant) -> bool {
        let names = self.by_address.get(&ip.to_canonical());
        names
            .and_then(|names| names.get(name))
            .is_some_and(|end| *end > now)
    }

    fn make_room(&mut self, now: Instant) {
        while let Some((end, ..)) = self.by_end.first()
            && (*end <= now || self.by_end.len() >= self.most)
        {
            let Some((_, ip, name)) = self.by_end.pop_first() else {
                return;
            };
            if let Some(names) = self.by_address.get_mut(&ip) {
                names.remove(&name);
                if names.is_empty() {
                    self.by_address.remove(&ip);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn name(n: u8) -> HostName {
        HostName::read(&format!("h{n}.example")).unwrap()
    }

    fn ip(n: u8) -> IpAddr {
        IpAddr::from([192, 0, 2, n])
    }

    #[test]
    fn an_answer_is_good_for_its_own_name_until_it_ends() {
        let (mut answers, now) = (Answers::default(), Instant::now());
        let later = |s| now + Duration::from_secs(s);
        answers.remember(&name(1), ip(1), later(60), now);
        answers.remember(&name(2), ip(1), later(120), now);
        assert!(answers.has(&name(1), ip(1), later(59)));
        assert!(!answers.has(&name(1), ip(1), later(60)));
        assert!(answers.has(&name(2), ip(1), later(60)));
        assert!(!answers.has(&name(1), ip(2), now));
        assert_eq!(answers.names(ip(1), later(60)).count(), 1);
        assert!(answers.has(&name(2), "::ffff:192.0.2.1".parse().unwrap(), now));
    }

    #[test]
    fn an_answer_that_changes_every_second_leaves_all_that_live() {
        let (mut answers, now) = (Answers::default(), Instant::now());
        for n in 0..100u8 {
            let at = now + Duration::from_secs(u64::from(n));
            answers.remember(&name(1), ip(n), at + life(1), at);
        }
        let end = now + Duration::from_secs(99);
        let alive: Vec<u8> = (0..100)
            .filter(|&n| answers.has(&name(1), ip(n), end))
            .collect();
        assert_eq!(alive, (40..100).collect::<Vec<u8>>());
    }

    #[test]
    fn lives_are_clamped() {
        assert_eq!(life(0), SHORTEST);
        assert_eq!(life(600), Duration::from_secs(600));
        assert_eq!(life(u32::MAX), LONGEST);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]
        #[test]
        fn the_table_is_bounded_and_what_dies_first_goes_first(
            steps in prop::collection::vec((0u8..6, 0u8..6, 0u64..100, 0u64..3), 1..80),
        ) {
            let (mut answers, start) = (Answers::with_room_for(8), Instant::now());
            let (mut now, mut model) = (start, Vec::<(HostName, IpAddr, Instant)>::new());
            for (n, a, lives, passes) in steps {
                now += Duration::from_secs(passes);
                let until = now + Duration::from_secs(lives);
                answers.remember(&name(n), ip(a), until, now);
                let known = model.iter_mut().find(|(m, i, _)| *m == name(n) && *i == ip(a));
                if let Some(known) = known {
                    known.2 = known.2.max(until);
                } else {
                    model.retain(|(.., end)| *end > now);
                    model.sort_by_key(|(name, ip, end)| (*end, *ip, name.clone()));
                    let over = (model.len() + 1).saturating_sub(8);
                    model.drain(..over);
                    model.push((name(n), ip(a), until));
                }
                prop_assert!(answers.len() <= 8);
                for n in 0..6 {
                    for a in 0..6 {
                        let expected = model.iter().any(|(m, i, end)| *m == name(n) && *i == ip(a) && *end > now);
                        prop_assert_eq!(answers.has(&name(n), ip(a), now), expected);
                    }
                }
            }
        }
    }
}
