//! Messages of name servers and of guests, whole, cut and hostile.

use super::*;
use proptest::prelude::*;

fn host(text: &str) -> HostName {
    HostName::read(text).unwrap()
}

/// An answer of a name server: the question of `query`, and records `(owner, type, data)`.
fn reply(query: &[u8], flags: u16, records: &[(&str, u16, Vec<u8>)]) -> Vec<u8> {
    let (_, end) = read_name(query, HEADER).unwrap();
    let mut out = query[..end + 4].to_vec();
    out[2..4].copy_from_slice(&(0x8180 | flags).to_be_bytes());
    out[6..8].copy_from_slice(&(records.len() as u16).to_be_bytes());
    out[10..12].fill(0);
    for (owner, kind, data) in records {
        out.extend(wire(owner));
        for number in [*kind, IN, 0, 300, data.len() as u16] {
            out.extend(number.to_be_bytes());
        }
        out.extend(data);
    }
    out
}

fn wire(name: &str) -> Vec<u8> {
    let mut out = Vec::new();
    for label in name.split('.') {
        out.push(label.len() as u8);
        out.extend(label.bytes());
    }
    out.push(0);
    out
}

fn addresses(answer: Result<Answer, NotAnAnswer>) -> Vec<String> {
    match answer {
        Ok(Answer::Addresses { addresses, .. }) => {
            addresses.iter().map(ToString::to_string).collect()
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_question_is_read_and_answered_in_its_own_letters() {
    let mut query = query(7, &host("www.example.com"), Kind::A);
    query[13] = b'W';
    let question = Question::read(&query).unwrap();
    assert_eq!(question.name, Some(host("www.example.com")));
    assert_eq!((question.kind, question.room()), (Kind::A, BY_UDP));
    let reply = question.answer(Code::Ok, &["192.0.2.1".parse().unwrap()], 60, BY_UDP);
    assert_eq!(reply[13], b'W');
    let answer = Answer::read(&reply, 7, &host("www.example.com"), Kind::A).unwrap();
    let expected = Answer::Addresses {
        addresses: vec!["192.0.2.1".parse().unwrap()],
        ttl: 60,
    };
    assert_eq!(answer, expected);
}

#[test]
fn an_answer_that_does_not_fit_says_so_and_stays_within_its_room() {
    let question = Question::read(&query(7, &host("big.example"), Kind::A)).unwrap();
    let many: Vec<IpAddr> = (0..200).map(|n| IpAddr::from([192, 0, 2, n])).collect();
    let cut = question.answer(Code::Ok, &many, 60, question.room());
    assert!(cut.len() <= BY_UDP, "{}", cut.len());
    assert_eq!(
        Answer::read(&cut, 7, &host("big.example"), Kind::A),
        Ok(Answer::Truncated)
    );
    let whole = question.answer(Code::Ok, &many, 60, 65_535);
    let whole = Answer::read(&whole, 7, &host("big.example"), Kind::A);
    assert_eq!(addresses(whole).len(), 200);
}

#[test]
fn only_addresses_at_the_end_of_the_chain_count() {
    let query = query(7, &host("a.example"), Kind::A);
    let message = reply(
        &query,
        0,
        &[
            ("evil.example", A, vec![192, 0, 2, 66]),
            ("c.example", A, vec![192, 0, 2, 1]),
            ("b.example", CNAME, wire("c.example")),
            ("A.example", CNAME, wire("B.example")),
            ("c.example", A, vec![192, 0, 2, 2]),
            ("a.example", A, vec![192, 0, 2, 67]),
        ],
    );
    let answer = Answer::read(&message, 7, &host("a.example"), Kind::A);
    assert_eq!(addresses(answer), ["192.0.2.1", "192.0.2.2"]);
}

#[test]
fn aliases_in_a_circle_end() {
    let query = query(7, &host("a.example"), Kind::A);
    let message = reply(
        &query,
        0,
        &[
            ("a.example", CNAME, wire("b.example")),
            ("b.example", CNAME, wire("a.example")),
        ],
    );
    let answer = Answer::read(&message, 7, &host("a.example"), Kind::A);
    assert_eq!(addresses(answer), Vec::<String>::new());
}

#[test]
fn what_answers_another_question_is_not_taken() {
    let name = host("a.example");
    let query = query(7, &name, Kind::A);
    let message = reply(&query, 0, &[("a.example", A, vec![192, 0, 2, 1])]);
    assert!(Answer::read(&message, 7, &name, Kind::A).is_ok());
    for (id, other, kind) in [
        (8, "a.example", Kind::A),
        (7, "b.example", Kind::A),
        (7, "a.example", Kind::Aaaa),
    ] {
        let read = Answer::read(&message, id, &host(other), kind);
        assert_eq!(read, Err(NotAnAnswer::Foreign));
    }
    assert_eq!(
        Answer::read(&query, 7, &name, Kind::A),
        Err(NotAnAnswer::Foreign)
    );
    for length in 0..message.len() {
        let read = Answer::read(&message[..length], 7, &name, Kind::A);
        assert!(read.is_err(), "cut to {length}: {read:?}");
    }
}

#[test]
fn the_name_servers_code_is_kept() {
    let name = host("a.example");
    let query = query(7, &name, Kind::A);
    let read = |flags| Answer::read(&reply(&query, flags, &[]), 7, &name, Kind::A);
    assert_eq!(read(3), Ok(Answer::NoSuchName));
    assert_eq!(read(2), Ok(Answer::Failed { code: 2 }));
    assert_eq!(read(0x200), Ok(Answer::Truncated));
}

#[test]
fn names_that_no_host_has_are_questions_without_a_name() {
    let mut message = vec![0, 7, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    message.extend([
        4, b'a', b'.', 0x1b, 0xff, 3, b'c', b'o', b'm', 0, 0, 1, 0, 1,
    ]);
    let question = Question::read(&message).unwrap();
    assert_eq!(question.name, None);
    assert_eq!(question.shown, "a\\\u{1b}\u{fffd}.com");
    // A dot in a label does not make two labels of it.
    let mut message = vec![0, 7, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    message.extend(*b"\x09a.example\x00\x00\x01\x00\x01");
    assert_eq!(Question::read(&message).unwrap().name, None);
}

#[test]
fn what_is_no_question_gets_an_answer_that_says_so_and_an_answer_none() {
    let good = query(7, &host("a.example"), Kind::A);
    let with = |at: usize, value: u8| {
        let mut message = good.clone();
        message[at] = value;
        Question::read(&message).map_err(|NoQuestion(reply)| reply.map(|r| r[3] & 0xf))
    };
    assert_eq!(with(2, 0x80), Err(None), "an answer");
    assert_eq!(with(2, 0x28), Err(Some(4)), "an update");
    assert_eq!(with(5, 2), Err(Some(1)), "two questions");
    assert_eq!(with(7, 1), Err(Some(1)), "with an answer in it");
    assert_eq!(with(12, 0xc0), Err(Some(1)), "a pointer");
    assert!(Question::read(&good[..11]).is_err());
    assert_eq!(Question::read(&[]), Err(NoQuestion(None)));
}

proptest! {
    #[test]
    fn no_message_is_more_than_refused(
        message in prop::collection::vec(any::<u8>(), 0..600),
        good in any::<bool>(),
    ) {
        let name = host("a.example");
        let mut message = message;
        if good {
            let begin = reply(&query(7, &name, Kind::A), 0, &[("a.example", A, vec![192, 0, 2, 1])]);
            message.splice(..0, begin);
            message[6] = 0;
            message[7] = 9;
        }
        if let Ok(Answer::Addresses { addresses, .. }) = Answer::read(&message, 7, &name, Kind::A) {
            prop_assert!(addresses.len() <= MOST_ADDRESSES);
        }
        if let Ok(question) = Question::read(&message) {
            let all = [IpAddr::from([192, 0, 2, 1]); 4];
            let room = question.room();
            prop_assert!(question.answer(Code::Ok, &all, 1, room).len() <= room);
        }
    }
}
