//! A first machine: made, used, removed; prints how long each step took.

use std::time::Instant;
use vmint::{Command, Force, NewMachine, Options, Progress, Vmint};

struct Print;

impl Progress for Print {
    fn stage(&self, text: &str) {
        eprintln!("· {text}");
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), vmint::Fault> {
    let image = std::env::args().nth(1).unwrap_or_else(|| "tiny".into());
    let vmint = Vmint::open(Options::from_environment()?)?;
    for found in vmint.sweep()? {
        eprintln!("· {}", found.message);
    }
    for _ in 0..5 {
        let began = Instant::now();
        let machine = vmint
            .create_running(NewMachine::ephemeral(&image), &Print)
            .await?;
        let up = began.elapsed();
        let output = vmint
            .output(
                machine.name.as_str(),
                Command::new(["sh", "-c", "uname -r; hostname; date"]),
            )
            .await?;
        let first = began.elapsed();
        vmint
            .output(machine.name.as_str(), Command::new(["true"]))
            .await?;
        let second = began.elapsed().saturating_sub(first);
        if std::env::var_os("SHOW_LOG").is_some() {
            let log = vmint.home().machine(&machine.id).runner_log();
            print!("{}", std::fs::read_to_string(log).unwrap_or_default());
        }
        vmint.remove(machine.name.as_str(), Force::Yes).await?;
        println!(
            "{}",
            String::from_utf8_lossy(&output.stdout).replace('\n', " ")
        );
        println!(
            "ready {:?} ({:?} ms), first {first:?}, next {second:?}, all {:?}",
            up,
            machine.ready_ms,
            began.elapsed()
        );
    }
    Ok(())
}
