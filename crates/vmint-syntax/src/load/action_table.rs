//! The syntax of an action, as data. GitHub reads actions less strictly than workflows: what it does not know outside of
//! `runs` does not matter.

use super::schema::{Mapping, Null, Others, Scalar, Shape};
use super::workflow_table::{
    ACTION_USED, BACKGROUND, BACKGROUND_HELP, BOOL, CONDITION, DESCRIPTION, ENV, FILLED, ID, TEXT,
    WITH, by_id, closed, declared, list, mapping, optional, refused, required, scalar,
};

/// An `action.yml`.
pub(super) static ACTION: Shape = mapping(&[(
    "",
    &Mapping {
        what: "the action",
        keys: &[
            optional("name", &TEXT),
            optional("description", &DESCRIPTION),
            optional("author", &DESCRIPTION),
            optional("inputs", &INPUTS),
            optional("outputs", &OUTPUTS),
            required("runs", &RUNS),
        ],
        others: Others::Ignored,
        wrong: None,
    },
)]);
static INPUTS: Shape = declared(&[("", &by_id("`inputs`", &INPUT))]);
static INPUT: Shape = Shape {
    null: Null::Allowed,
    ..mapping(&[(
        "",
        &Mapping {
            what: "an input",
            keys: &[
                optional("description", &DESCRIPTION),
                optional("required", &scalar(Scalar::LooseFlag)),
                optional("default", &TEXT),
                optional("deprecationMessage", &TEXT),
            ],
            others: Others::Ignored,
            wrong: None,
        },
    )])
};
static OUTPUTS: Shape = declared(&[("", &by_id("`outputs`", &OUTPUT))]);
static OUTPUT: Shape = Shape {
    null: Null::Allowed,
    ..mapping(&[(
        "",
        &Mapping {
            what: "an output",
            keys: &[
                optional("description", &DESCRIPTION),
                optional("value", &TEXT),
            ],
            others: Others::Ignored,
            wrong: None,
        },
    )])
};
static RUNS: Shape = mapping(&[
    ("steps", &COMPOSITE),
    ("image", &DOCKER),
    ("main", &NODE),
    ("", &UNKNOWN),
]);
static COMPOSITE: Mapping = closed(
    "`runs` of a composite action",
    &[
        required("using", &scalar(Scalar::Word(&["composite"]))),
        required("steps", &list(&STEP)),
    ],
);
static NODE: Mapping = closed(
    "`runs` of a JavaScript action",
    &[
        required(
            "using",
            &scalar(Scalar::Word(&["node24", "node20", "node16", "node12"])),
        ),
        required("main", &FILLED),
        optional("pre", &FILLED),
        optional("pre-if", &CONDITION),
        optional("post", &FILLED),
        optional("post-if", &CONDITION),
    ],
);
static DOCKER: Mapping = closed(
    "`runs` of a docker action",
    &[
        required("using", &scalar(Scalar::Word(&["docker"]))),
        required("image", &FILLED),
        optional("env", &mapping(&[("", &by_id("`env`", &TEXT))])),
        optional("entrypoint", &FILLED),
        optional("args", &Shape { ..list(&TEXT) }),
        optional("pre-entrypoint", &FILLED),
        optional("pre-if", &CONDITION),
        optional("post-entrypoint", &FILLED),
        optional("post-if", &CONDITION),
    ],
);
static UNKNOWN: Mapping = Mapping {
    what: "`runs`",
    keys: &[required("using", &TEXT)],
    others: Others::Ignored,
    wrong: Some((
        "the action does not say what it runs",
        "`runs` needs `using: composite` with `steps`, `using: node24` with `main`, or `using: docker` with `image`",
    )),
};

static STEP: Shape = mapping(&[("uses", &USES_STEP), ("run", &RUN_STEP), ("", &EMPTY_STEP)]);
const NO_TIMEOUT: &str = "`timeout-minutes` is not allowed in a step of an action";
const NO_TIMEOUT_HELP: &str =
    "set it on the step that uses the action, or use `timeout` in the script";
static USES_STEP: Mapping = closed(
    "a step with `uses`",
    &[
        optional("name", &TEXT),
        optional("id", &ID),
        optional("if", &CONDITION),
        required("uses", &ACTION_USED),
        optional("with", &WITH),
        optional("env", &ENV),
        optional("continue-on-error", &BOOL),
        refused(
            "run",
            "the step has both `run` and `uses`",
            "make two steps of it",
        ),
        refused(
            "shell",
            "`shell` is not allowed in a step with `uses`",
            "`shell` belongs to steps with `run`",
        ),
        refused("timeout-minutes", NO_TIMEOUT, NO_TIMEOUT_HELP),
        refused("background", BACKGROUND, BACKGROUND_HELP),
    ],
);
static RUN_STEP: Mapping = closed(
    "a step with `run` in an action",
    &[
        optional("name", &TEXT),
        optional("id", &ID),
        optional("if", &CONDITION),
        required("run", &TEXT),
        required("shell", &FILLED),
        optional("working-directory", &FILLED),
        optional("env", &ENV),
        optional("continue-on-error", &BOOL),
        refused(
            "with",
            "`with` is not allowed in a step with `run`",
            "pass values by `env`",
        ),
        refused("timeout-minutes", NO_TIMEOUT, NO_TIMEOUT_HELP),
        refused("background", BACKGROUND, BACKGROUND_HELP),
    ],
);
static EMPTY_STEP: Mapping = Mapping {
    what: "a step",
    keys: &[],
    others: Others::Ignored,
    wrong: Some((
        "the step has neither `run` nor `uses`",
        "a step runs a script or uses an action",
    )),
};
