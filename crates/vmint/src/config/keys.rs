//! Every table and key of `vmint.toml`: the one list of what the file may say.
//!
//! The parser refuses a key that is not listed here, and `docs/configuration.md` is made of it. A test gives each example to the
//! parser, and compares each default and variable with what the parser uses.

/// What a value is, and how it is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A string.
    Text,
    /// A list of strings.
    Texts,
    /// A whole number.
    Number,
    /// A number, whole or not.
    Fraction,
    /// `true` or `false`.
    Flag,
    /// Bytes.
    Size,
    /// A time.
    Duration,
    /// A file or folder.
    Path,
    /// A name of an image.
    Image,
    /// A network mode.
    Network,
    /// One of these words.
    Choice(&'static [&'static str]),
    /// A table of its own, which is described apart.
    Table,
}

/// A key.
#[derive(Clone, Copy, Debug)]
pub struct Key {
    /// As it is written.
    pub name: &'static str,
    /// What its value is.
    pub kind: Kind,
    /// What holds without it.
    pub absent: Absent,
    /// A value, as it is written.
    pub example: &'static str,
    /// The variable of the environment that wins over the file.
    pub variable: Option<&'static str>,
    /// What it is for.
    pub about: &'static str,
}

/// What holds where a key is absent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Absent {
    /// This value, as it would be written.
    Value(&'static str),
    /// What these words say.
    Words(&'static str),
    /// Nothing: the key is required.
    Required,
}

/// A table.
#[derive(Clone, Copy, Debug)]
pub struct Table {
    /// As in the file, with `NAME` for what users choose; empty for the keys outside of all tables.
    pub name: &'static str,
    /// What it is for.
    pub about: &'static str,
    /// Its keys; none where users choose them.
    pub keys: &'static [Key],
}

impl Table {
    /// The names of its keys.
    pub fn names(&self) -> impl Iterator<Item = &'static str> + use<> {
        self.keys.iter().map(|key| key.name)
    }

    /// Whether it has this key.
    pub fn has(&self, name: &str) -> bool {
        self.names().any(|known| known == name)
    }
}

use Absent::{Required, Value, Words};

const fn key(
    name: &'static str,
    kind: Kind,
    absent: Absent,
    example: &'static str,
    about: &'static str,
) -> Key {
    Key {
        name,
        kind,
        absent,
        example,
        variable: None,
        about,
    }
}

impl Key {
    const fn variable(self, name: &'static str) -> Self {
        Self {
            variable: Some(name),
            ..self
        }
    }
}

const fn table(name: &'static str, about: &'static str) -> Key {
    key(name, Kind::Table, Words("empty"), "", about)
}

/// All tables, in the order in which the page has them.
pub const TABLES: [&Table; 10] = [
    &TOP, &DEFAULTS, &IMAGE, &POOL, &SNAPSHOTS, &ADMISSION, &WORKFLOW, &RUNS_ON, &REPLACE,
    &REPLACED,
];

/// The user's own settings, `~/.config/vmint/config.toml`: another file.
pub const OWN: Table = Table {
    name: "",
    about: "Your own settings, which no checkout brings along.",
    keys: &[key(
        "trust",
        Kind::Texts,
        Value("[]"),
        "[\"/home/me/work\"]",
        "Folders whose `vmint.toml` vmint obeys whoever owns it, and which may name files outside of their folder",
    )
    .variable(super::TRUST_VARIABLE)],
};

/// Outside of all tables.
pub const TOP: Table = Table {
    name: "",
    about: "These keys stand at the top of the file, before the first table.",
    keys: &[
        key(
            "accelerator",
            Kind::Choice(&["auto", "kvm", "tcg"]),
            Value("\"auto\""),
            "\"tcg\"",
            "What executes guests. `auto` is KVM if a probe guest comes up with it, otherwise emulation (`tcg`)",
        )
        .variable("VMINT_ACCELERATOR"),
        key(
            "confine",
            Kind::Choice(&["best", "require"]),
            Value("\"best\""),
            "\"require\"",
            "The fence around QEMU. `best` takes what the host offers, `require` refuses to start without it. `off` is accepted only \
             from the variable",
        )
        .variable("VMINT_CONFINE"),
        // Known, and refused with the reason.
        key(
            "run-as",
            Kind::Text,
            Words("your user"),
            "",
            "Refused here: the user of QEMU's processes comes only from `--run-as` and the variable",
        )
        .variable("VMINT_RUN_AS"),
        table("defaults", "Machines, unless flags say otherwise"),
        table("images", "Images that vmint builds or imports on first use"),
        table("pools", "Pools that vmint makes on first use"),
        table("snapshots", "Snapshots"),
        table("admission", "When the host may start another machine"),
        table("workflow", "Workflows"),
    ],
};

const CPU_LIMIT: Key = key(
    "cpu-limit",
    Kind::Fraction,
    Words("none"),
    "1.5",
    "Maximum number of the host's processors that a machine uses",
);
const IO_LIMIT: Key = key(
    "io-limit",
    Kind::Size,
    Words("none"),
    "\"20M\"",
    "Maximum number of bytes a second that a machine reads from the host's disk, and that it writes",
);
const DISK_LIMIT: Key = key(
    "disk-limit",
    Kind::Size,
    Words("none"),
    "\"2G\"",
    "Maximum size by which a machine's disk grows",
);

/// `[defaults]`.
pub const DEFAULTS: Table = Table {
    name: "defaults",
    about: "Machines, unless flags say otherwise.",
    keys: &[
        key(
            "image",
            Kind::Image,
            Value("\"tiny\""),
            "\"web\"",
            "Image of `vmint run` and `vmint create`",
        )
        .variable("VMINT_IMAGE"),
        key(
            "memory",
            Kind::Size,
            Value("\"512M\""),
            "\"1G\"",
            "Guest memory: a whole number of MiB, 64 MiB to 1 TiB",
        )
        .variable("VMINT_MEMORY"),
        key("cpus", Kind::Number, Value("1"), "2", "Virtual processors").variable("VMINT_CPUS"),
        key(
            "net",
            Kind::Network,
            Value("\"none\""),
            "\"allow:pypi.org,*.example.com\"",
            "Network: `none`, `nat`, or `allow:` with a list of names",
        )
        .variable("VMINT_NET"),
        CPU_LIMIT.variable("VMINT_CPU_LIMIT"),
        IO_LIMIT.variable("VMINT_IO_LIMIT"),
        DISK_LIMIT.variable("VMINT_DISK_LIMIT"),
        key(
            "start-timeout",
            Kind::Duration,
            Words("depends on the accelerator"),
            "\"2m\"",
            "How long a machine may take to start",
        ),
    ],
};

/// `[images.NAME]`.
pub const IMAGE: Table = Table {
    name: "images.NAME",
    about: "An image that vmint builds (`from`) or imports (`import`) when it is first used. Paths are relative to the folder of the \
            file, and must lie in it unless you trust the file.",
    keys: &[
        key(
            "from",
            Kind::Choice(&["tiny", "debian:12", "debian:13"]),
            Words("this or `import` is required"),
            "\"debian:12\"",
            "What the image is built from",
        ),
        key(
            "import",
            Kind::Text,
            Words("this or `from` is required"),
            "\"docker://alpine:3.20\"",
            "What is imported: `docker://REF`, `oci:DIR`, `oci-archive:FILE`, or a tar file",
        ),
        key(
            "packages",
            Kind::Texts,
            Words("none"),
            "[\"nginx\"]",
            "Packages to install; with `from`",
        ),
        key(
            "run",
            Kind::Texts,
            Words("none"),
            "[\"systemctl enable nginx\"]",
            "Shell commands to run in the booted guest, as root and with a network; with `from`",
        ),
        key(
            "copy",
            Kind::Texts,
            Words("none"),
            "[\"site:/var/www/\"]",
            "Files and folders to copy into the image, `SRC:DST`; with `from`",
        ),
        key(
            "size",
            Kind::Size,
            Words("4G with `from`; by content with `import`"),
            "\"8G\"",
            "Size of the disk",
        ),
        key(
            "kernel",
            Kind::Path,
            Words("the distribution's"),
            "\"vmlinuz\"",
            "Kernel (a bzImage)",
        ),
        key(
            "modules",
            Kind::Path,
            Words("none"),
            "\"modules\"",
            "Folder with the modules of `kernel`, needed unless all its drivers are built in",
        ),
        key(
            "node",
            Kind::Text,
            Words("the `node` of its `PATH`"),
            "\"/opt/node/bin/node\"",
            "Program in the image that runs JavaScript actions; scripts have the `node` of `PATH`",
        ),
    ],
};

/// `[pools.NAME]`.
pub const POOL: Table = Table {
    name: "pools.NAME",
    about: "A pool that vmint makes when it is first used. Memory, processors, network and limits are those of `[defaults]` in the \
            file unless given here; the environment does not change a pool.",
    keys: &[
        key(
            "image",
            Kind::Image,
            Required,
            "\"web\"",
            "Image of the machines",
        ),
        key(
            "min",
            Kind::Number,
            Value("2"),
            "1",
            "Number of machines kept ready; at most `max`",
        ),
        key(
            "max",
            Kind::Number,
            Value("8"),
            "4",
            "Maximum number of machines, in any state",
        ),
        key(
            "standby",
            Kind::Number,
            Value("1"),
            "2",
            "Number of parked forks beyond the machines in use, for quick resets",
        ),
        key(
            "memory",
            Kind::Size,
            Value("\"512M\""),
            "\"1G\"",
            "Guest memory",
        ),
        key("cpus", Kind::Number, Value("1"), "2", "Virtual processors"),
        key(
            "net",
            Kind::Network,
            Value("\"none\""),
            "\"nat\"",
            "Network",
        ),
        CPU_LIMIT,
        IO_LIMIT,
        DISK_LIMIT,
        key(
            "ttl",
            Kind::Duration,
            Value("\"1h\""),
            "\"10m\"",
            "How long a lease lasts",
        ),
        key(
            "max-uses",
            Kind::Number,
            Words("never"),
            "100",
            "Number of leases after which a machine is replaced",
        ),
    ],
};

/// `[snapshots]`.
pub const SNAPSHOTS: Table = Table {
    name: "snapshots",
    about: "How snapshots are made.",
    keys: &[key(
        "full",
        Kind::Flag,
        Value("false"),
        "true",
        "Save all of a machine's memory, not only what has changed",
    )
    .variable("VMINT_SNAPSHOT_FULL")],
};

/// `[admission]`.
pub const ADMISSION: Table = Table {
    name: "admission",
    about: "When the host may start another machine, and what happens when it may not.",
    keys: &[
        key(
            "on-pressure",
            Kind::Choice(&["wait", "fail", "skip"]),
            Value("\"wait\""),
            "\"fail\"",
            "What to do when the host cannot carry another machine now",
        )
        .variable("VMINT_ADMISSION_ON_PRESSURE"),
        key("timeout", Kind::Duration, Value("\"1m\""), "\"5m\"", "How long to wait")
            .variable("VMINT_ADMISSION_TIMEOUT"),
        key(
            "overcommit",
            Kind::Fraction,
            Value("1"),
            "1.5",
            "Share of the memory that machines can have which vmint promises to them",
        )
        .variable("VMINT_ADMISSION_OVERCOMMIT"),
        key(
            "swap-percent",
            Kind::Number,
            Value("80"),
            "50",
            "Percentage of swap in use above which nothing starts",
        )
        .variable("VMINT_ADMISSION_SWAP_PERCENT"),
        key(
            "pressure",
            Kind::Number,
            Value("40"),
            "20",
            "Value of `avg10` in `/proc/pressure/memory` (`some`), in percent, above which nothing starts",
        )
        .variable("VMINT_ADMISSION_PRESSURE"),
        key("cold-boots", Kind::Number, Value("2"), "1", "Number of machines that boot at the same time")
            .variable("VMINT_ADMISSION_COLD_BOOTS"),
        key(
            "forks",
            Kind::Number,
            Value("0"),
            "4",
            "Number of forks that start at the same time; 0 is the number of processors",
        )
        .variable("VMINT_ADMISSION_FORKS"),
    ],
};

/// `[workflow]`.
pub const WORKFLOW: Table = Table {
    name: "workflow",
    about: "How `vmint workflow run` runs workflows. Memory, processors, network and number of machines hold where no pool is named.",
    keys: &[
        key(
            "image",
            Kind::Image,
            Words("that of `[defaults]`"),
            "\"ci\"",
            "Image for `ubuntu-latest` and the like",
        )
        .variable("VMINT_WORKFLOW_IMAGE"),
        key(
            "memory",
            Kind::Size,
            Value("\"1G\""),
            "\"2G\"",
            "Guest memory",
        ),
        key("cpus", Kind::Number, Value("1"), "2", "Virtual processors"),
        key(
            "net",
            Kind::Network,
            Value("\"nat\""),
            "\"allow:github.com\"",
            "Network",
        ),
        key(
            "max",
            Kind::Number,
            Value("4"),
            "8",
            "Maximum number of machines of an image at the same time",
        ),
        key(
            "user",
            Kind::Text,
            Words("the image's"),
            "\"runner\"",
            "User who runs the steps",
        ),
        key(
            "actions",
            Kind::Path,
            Words("none"),
            "\"actions\"",
            "Folder with copies of actions, `OWNER/REPOSITORY@REF` or `OWNER/REPOSITORY`",
        ),
        key(
            "setup",
            Kind::Text,
            Words("none"),
            "\"mount -a\"",
            "Shell script at the end of each job's set-up",
        ),
        key(
            "cleanup",
            Kind::Text,
            Words("none"),
            "\"journalctl -b\"",
            "Shell script at the beginning of each job's clean-up",
        ),
        table("runs-on", "Labels"),
        key(
            "skip-runs-on",
            Kind::Texts,
            Value("[]"),
            "[\"macos-*\"]",
            "Labels whose jobs are left out and shown as skipped; `*` is any text",
        ),
        table("replace", "Actions that are replaced"),
        key(
            "timeout",
            Kind::Duration,
            Words("none"),
            "\"2h\"",
            "How long a run may take",
        ),
        key(
            "keep-runs",
            Kind::Number,
            Value("100"),
            "20",
            "Number of runs that are kept",
        ),
        key(
            "snapshot-age",
            Kind::Duration,
            Value("\"168h\""),
            "\"24h\"",
            "How long snapshots of steps are kept",
        ),
        key(
            "snapshot-quota",
            Kind::Size,
            Value("\"10G\""),
            "\"20G\"",
            "Size that snapshots of steps may take; the oldest go first",
        ),
        key(
            "cache-quota",
            Kind::Size,
            Value("\"10G\""),
            "\"2G\"",
            "Size that caches may take; those go first that were not used for the longest time",
        ),
    ],
};

/// `[workflow.runs-on]`.
pub const RUNS_ON: Table = Table {
    name: "workflow.runs-on",
    about: "Each key is a label of `runs-on`, or a family of labels with `*`; its value is the image or the pool that runs its jobs: \
            `gpu = \"cuda\"`.",
    keys: &[],
};

/// `[workflow.replace]`.
pub const REPLACE: Table = Table {
    name: "workflow.replace",
    about: "Each key is an action, `OWNER/REPOSITORY` or `OWNER/REPOSITORY@REF`. Its value is `\"nothing\"` (the step does nothing), \
            `\"itself\"` (the copy in the mirror) or a table with `run`.",
    keys: &[],
};

/// What stands in for an action.
pub const REPLACED: Table = Table {
    name: "workflow.replace.ACTION",
    about: "A script in place of an action: `\"OWNER/tool\" = { run = \"command -v tool\" }`.",
    keys: &[key(
        "run",
        Kind::Text,
        Required,
        "\"command -v tool\"",
        "Shell script that runs in the workspace; it sees the action's inputs as `INPUT_NAME`",
    )],
};
