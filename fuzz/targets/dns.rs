//! A guest's question, and a name server's answer.
#![no_main]

use libfuzzer_sys::fuzz_target;
use vmint_egress::dns::{self, Answer, Code, Kind, MOST_ADDRESSES, Question};
use vmint_model::HostName;

fuzz_target!(|message: &[u8]| {
    if let Ok(question) = Question::read(message) {
        let ip = [192, 0, 2, 1].into();
        let answer = question.answer(Code::Ok, &[ip; 3], 60, question.room());
        assert!(answer.len() <= question.room());
        if let Some(name) = &question.name {
            // What is answered is the answer to what was asked.
            let id = u16::from_be_bytes([message[0], message[1]]);
            if question.kind == Kind::A {
                let read = Answer::read(&answer, id, name, Kind::A);
                assert!(
                    matches!(read, Ok(Answer::Addresses { .. } | Answer::Truncated)),
                    "{read:?}"
                );
            }
        }
    }
    // The beginning of an answer to a question of ours, and then whatever comes.
    let name = HostName::read("a.example").expect("a name");
    let mut answer = dns::query(7, &name, Kind::A)[..27].to_vec();
    answer[2] = 0x81;
    answer[10..12].fill(0);
    let (counts, rest) = message.split_at(message.len().min(2));
    answer[6..6 + counts.len()].copy_from_slice(counts);
    answer.extend(rest);
    for message in [message, &answer] {
        if let Ok(Answer::Addresses { addresses, .. }) = Answer::read(message, 7, &name, Kind::A) {
            assert!(addresses.len() <= MOST_ADDRESSES);
        }
    }
});
