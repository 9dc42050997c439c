//! A machine for the tests of dialogues: it answers by rules, and writes down what was said and run.

use super::call::{Answer, Turn};
use super::engine::{Engine, Init};
use crate::guest::Exit;
use std::fmt::Write as _;

/// What is answered. The first rule whose text stands in the command counts; without one a command succeeds and says nothing.
pub struct Script(Vec<Rule>);

struct Rule {
    sign: &'static str,
    answer: Answer,
    is_for_once: bool,
}

impl Script {
    pub fn new() -> Self {
        Self(Vec::new())
    }

    pub fn say(mut self, sign: &'static str, output: &str) -> Self {
        self.0.push(Rule::new(sign, 0, output, false));
        self
    }

    pub fn say_once(mut self, sign: &'static str, output: &str) -> Self {
        self.0.push(Rule::new(sign, 0, output, true));
        self
    }

    pub fn fail(mut self, sign: &'static str, code: u8, output: &str) -> Self {
        self.0.push(Rule::new(sign, code, output, false));
        self
    }

    pub fn fail_once(mut self, sign: &'static str, code: u8, output: &str) -> Self {
        self.0.push(Rule::new(sign, code, output, true));
        self
    }

    fn answer(&mut self, command: &str) -> Answer {
        let found = self.0.iter().position(|rule| command.contains(rule.sign));
        match found {
            None => Answer::new(Exit::Code(0), b""),
            Some(at) if self.0[at].is_for_once => self.0.remove(at).answer,
            Some(at) => self.0[at].answer.clone(),
        }
    }
}

impl Rule {
    fn new(sign: &'static str, code: u8, output: &str, is_for_once: bool) -> Self {
        Self {
            sign,
            answer: Answer::new(Exit::Code(code), output.as_bytes()),
            is_for_once,
        }
    }
}

pub fn podman() -> Engine {
    Engine::Podman {
        init: Init::Systemd,
        socket: Some("/run/podman/podman.sock".into()),
    }
}

/// Runs a dialogue to its end.
pub fn run<R>(mut script: Script, mut next: impl FnMut(Option<Answer>) -> Turn<R>) -> (R, String) {
    let mut log = String::new();
    let mut answer = None;
    for _ in 0..1000 {
        match next(answer.take()) {
            Turn::Say(kind, text) => writeln!(log, "{kind:?}: {text}").unwrap(),
            Turn::Run(call) => {
                let command = call.argv.join(" ");
                let after = match call.after.as_secs() {
                    0 => String::new(),
                    seconds => format!("after {seconds} s: "),
                };
                writeln!(log, "{after}$ {command}").unwrap();
                answer = Some(script.answer(&command));
            }
            Turn::End(end) => return (end, log),
        }
    }
    panic!("no end: {log}");
}
