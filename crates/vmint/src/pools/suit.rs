//! Which pool serves machines of a kind that nobody has named a pool for, and whether a pool serves the machines that
//! are wanted.

use vmint_model::{ErrorKind, Fault, Name, PoolSpec};

/// How much of an image's name is in a pool's, in characters.
const MOST_OF_IMAGE: usize = 24;

/// The name of the pool that vmint makes itself for machines of this image, memory, processors and network: readable, and
/// another one for any other machine. `purpose` says what vmint makes it for, in letters, digits and dashes.
pub(crate) fn pool_name(purpose: &str, spec: &PoolSpec) -> Name {
    let (image, memory, cpus, net) = (&spec.image, spec.memory.0, spec.cpus, &spec.net);
    // FNV-1a: the same in every process, whatever compiled it.
    let mut kind = format!("{image}\0{memory}\0{cpus}\0{net}");
    // Pools of before there were limits keep their names.
    if !spec.limits.is_none() {
        kind += &format!("\0{}", spec.limits);
    }
    let digest = kind.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    let image: String = image
        .chars()
        .map(|c| {
            if c.is_ascii_alphanumeric() {
                c.to_ascii_lowercase()
            } else {
                '-'
            }
        })
        .take(MOST_OF_IMAGE)
        .collect();
    format!("{purpose}-{}-{digest:016x}", image.trim_matches('-'))
        .parse()
        .expect("letters, digits and dashes behind a letter")
}

/// Refuses a pool whose machines are not of the image that is wanted. Names are digests of what they stand for, pools can be
/// removed and made again under another's eyes: only the pool itself says what it serves.
pub(crate) fn of_image(pool: &Name, has: &str, wanted: &str) -> Result<(), Fault> {
    if has == wanted {
        return Ok(());
    }
    let message =
        format!("pool `{pool}` has machines of image `{has}`, and image `{wanted}` is wanted");
    Err(Fault::new(ErrorKind::WrongState, message).hint(format!(
        "remove it with `vmint pool rm {pool}`, or name another pool"
    )))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use vmint_model::{ByteSize, NetMode};

    #[test]
    fn a_pool_of_other_machines_has_another_name_and_all_names_are_legal() {
        let spec = PoolSpec::of("tiny");
        let name = pool_name("test", &spec);
        assert!(name.as_str().starts_with("test-tiny-"), "{name}");
        let larger = PoolSpec {
            max: 99,
            ..spec.clone()
        };
        assert_eq!(name, pool_name("test", &larger));
        let others = [
            PoolSpec {
                memory: ByteSize::mib(256),
                ..spec.clone()
            },
            PoolSpec {
                cpus: 2,
                ..spec.clone()
            },
            PoolSpec {
                net: NetMode::Nat,
                ..spec.clone()
            },
            PoolSpec::of("debian:12"),
            PoolSpec::of("a-b"),
            PoolSpec::of("a.b"),
            PoolSpec::of("registry.example/a_very/long-name-with-all-sorts-of-things:13.2_x"),
            PoolSpec::of("registry.example/a_very/long-name-with-all-sorts-of-things:13.2_y"),
        ];
        let mut names: Vec<_> = others.iter().map(|spec| pool_name("test", spec)).collect();
        names.push(name);
        names.push(pool_name("workflow-10000", &spec));
        names.sort();
        names.dedup();
        assert_eq!(names.len(), 10, "{names:?}");
    }

    #[test]
    fn a_pool_of_another_image_is_refused_with_both_names() {
        let name: Name = "ci".parse().unwrap();
        assert_eq!(of_image(&name, "a.b", "a.b"), Ok(()));
        let fault = of_image(&name, "a.b", "a-b").unwrap_err();
        assert_eq!(
            fault.message,
            "pool `ci` has machines of image `a.b`, and image `a-b` is wanted"
        );
    }

    proptest! {
        #[test]
        fn every_image_has_a_pool_with_a_legal_name(image in "\\PC{0,80}") {
            let (one, other) = (PoolSpec::of(&image), PoolSpec::of(format!("{image}x")));
            prop_assert_ne!(pool_name("workflow-10000", &one), pool_name("workflow-10000", &other));
        }
    }
}
