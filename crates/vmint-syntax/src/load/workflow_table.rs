//! The syntax of a workflow, as data.

use super::schema::{Entry, Mapping, Need, Null, Others, Scalar, Shape};

pub(super) const fn scalar(scalar: Scalar) -> Shape {
    Shape {
        scalar,
        list: None,
        mapping: &[],
        null: Null::Refused,
    }
}

pub(super) const fn list(item: &'static Shape) -> Shape {
    Shape {
        list: Some(item),
        ..scalar(Scalar::No)
    }
}

pub(super) const fn mapping(tables: &'static [(&'static str, &'static Mapping)]) -> Shape {
    Shape {
        mapping: tables,
        ..scalar(Scalar::No)
    }
}

pub(super) const fn optional(key: &'static str, shape: &'static Shape) -> Entry {
    let need = Need::Optional;
    Entry { key, need, shape }
}

pub(super) const fn required(key: &'static str, shape: &'static Shape) -> Entry {
    let need = Need::Required;
    Entry { key, need, shape }
}

const fn no_effect(key: &'static str, shape: &'static Shape, why: &'static str) -> Entry {
    let need = Need::NoEffect(why);
    Entry { key, need, shape }
}

pub(super) const fn refused(key: &'static str, message: &'static str, help: &'static str) -> Entry {
    let need = Need::Refused(message, help);
    Entry {
        key,
        need,
        shape: &ANY,
    }
}

pub(super) const fn closed(what: &'static str, keys: &'static [Entry]) -> Mapping {
    Mapping {
        what,
        keys,
        others: Others::Refused,
        wrong: None,
    }
}

pub(super) static ANY: Shape = scalar(Scalar::Any);
pub(super) static TEXT: Shape = scalar(Scalar::Text);
pub(super) static FILLED: Shape = scalar(Scalar::Filled);
pub(super) static BOOL: Shape = scalar(Scalar::Bool);
pub(super) static FLAG: Shape = scalar(Scalar::Flag);
static NUMBER: Shape = scalar(Scalar::Number);
static COUNT: Shape = scalar(Scalar::Count);
pub(super) static ACTION_USED: Shape = scalar(Scalar::Action);
pub(super) static ID: Shape = scalar(Scalar::Id);
/// `if`: nothing is as if it were absent.
pub(super) static CONDITION: Shape = Shape {
    null: Null::Allowed,
    ..scalar(Scalar::Text)
};
static TEXTS: Shape = list(&FILLED);
/// One text, or a list of them.
static ONE_OR_MORE: Shape = Shape {
    list: Some(&FILLED),
    ..scalar(Scalar::Filled)
};
pub(super) static ENV: Shape = Shape {
    mapping: &[("", &ENV_ENTRIES)],
    ..scalar(Scalar::Expression)
};
static ENV_ENTRIES: Mapping = Mapping {
    what: "`env`",
    keys: &[],
    others: Others::Names(&TEXT),
    wrong: None,
};
pub(super) static WITH: Shape = Shape {
    mapping: &[("", &WITH_ENTRIES)],
    ..scalar(Scalar::Expression)
};
static WITH_ENTRIES: Mapping = Mapping {
    what: "`with`",
    keys: &[],
    others: Others::Names(&TEXT),
    wrong: None,
};

/// A workflow file.
pub(super) static WORKFLOW: Shape = mapping(&[("", &WORKFLOW_KEYS)]);
static WORKFLOW_KEYS: Mapping = closed(
    "the workflow",
    &[
        optional("name", &TEXT),
        optional("run-name", &TEXT),
        required("on", &ON),
        optional("permissions", &PERMISSIONS),
        optional("env", &ENV),
        optional("defaults", &DEFAULTS),
        optional("concurrency", &CONCURRENCY),
        required("jobs", &JOBS),
        no_effect(
            "cache-mode",
            &CACHE_MODE,
            "caches are kept on this host and can be read and written",
        ),
    ],
);

static CACHE_MODE: Shape = scalar(Scalar::Word(&["read", "write", "write-only", "none"]));

// ---- on ----

/// What GitHub knows as events.
static EVENTS: &[&str] = &[
    "branch_protection_rule",
    "check_run",
    "check_suite",
    "create",
    "delete",
    "deployment",
    "deployment_status",
    "discussion",
    "discussion_comment",
    "fork",
    "gollum",
    "image_version",
    "issue_comment",
    "issues",
    "label",
    "merge_group",
    "milestone",
    "page_build",
    "project",
    "project_card",
    "project_column",
    "public",
    "pull_request",
    "pull_request_review",
    "pull_request_review_comment",
    "pull_request_target",
    "push",
    "registry_package",
    "release",
    "repository_dispatch",
    "schedule",
    "status",
    "watch",
    "workflow_call",
    "workflow_dispatch",
    "workflow_run",
];
static ON: Shape = Shape {
    list: Some(&EVENT),
    mapping: &[("", &ON_KEYS)],
    ..scalar(Scalar::Word(EVENTS))
};
static EVENT: Shape = scalar(Scalar::Word(EVENTS));

const fn event(key: &'static str) -> Entry {
    optional(key, &PLAIN_EVENT)
}

static ON_KEYS: Mapping = closed(
    "`on`",
    &[
        event("branch_protection_rule"),
        event("check_run"),
        event("check_suite"),
        event("create"),
        event("delete"),
        event("deployment"),
        event("deployment_status"),
        event("discussion"),
        event("discussion_comment"),
        event("fork"),
        event("gollum"),
        optional("image_version", &IMAGE_VERSION),
        event("issue_comment"),
        event("issues"),
        event("label"),
        optional("merge_group", &PULL_REQUEST),
        event("milestone"),
        event("page_build"),
        event("project"),
        event("project_card"),
        event("project_column"),
        event("public"),
        optional("pull_request", &PULL_REQUEST),
        event("pull_request_review"),
        event("pull_request_review_comment"),
        optional("pull_request_target", &PULL_REQUEST),
        optional("push", &PUSH),
        event("registry_package"),
        event("release"),
        event("repository_dispatch"),
        optional("schedule", &SCHEDULE),
        event("status"),
        event("watch"),
        optional("workflow_call", &WORKFLOW_CALL),
        optional("workflow_dispatch", &WORKFLOW_DISPATCH),
        optional("workflow_run", &WORKFLOW_RUN),
    ],
);

const fn event_body(tables: &'static [(&'static str, &'static Mapping)]) -> Shape {
    Shape {
        null: Null::Allowed,
        ..mapping(tables)
    }
}

static PLAIN_EVENT: Shape = event_body(&[("", &PLAIN_EVENT_KEYS)]);
static PLAIN_EVENT_KEYS: Mapping = closed("this event", &[optional("types", &ONE_OR_MORE)]);
static IMAGE_VERSION: Shape = event_body(&[(
    "",
    &closed(
        "`image_version`",
        &[
            optional("names", &ONE_OR_MORE),
            optional("versions", &ONE_OR_MORE),
        ],
    ),
)]);
static PUSH: Shape = event_body(&[(
    "",
    &closed(
        "`push`",
        &[
            optional("branches", &ONE_OR_MORE),
            optional("branches-ignore", &ONE_OR_MORE),
            optional("tags", &ONE_OR_MORE),
            optional("tags-ignore", &ONE_OR_MORE),
            optional("paths", &ONE_OR_MORE),
            optional("paths-ignore", &ONE_OR_MORE),
        ],
    ),
)]);
static PULL_REQUEST: Shape = event_body(&[(
    "",
    &closed(
        "this event",
        &[
            optional("types", &ONE_OR_MORE),
            optional("branches", &ONE_OR_MORE),
            optional("branches-ignore", &ONE_OR_MORE),
            optional("paths", &ONE_OR_MORE),
            optional("paths-ignore", &ONE_OR_MORE),
        ],
    ),
)]);
static SCHEDULE: Shape = list(&mapping(&[(
    "",
    &closed(
        "an entry of `schedule`",
        &[required("cron", &FILLED), optional("timezone", &FILLED)],
    ),
)]));
static WORKFLOW_RUN: Shape = event_body(&[(
    "",
    &closed(
        "`workflow_run`",
        &[
            required("workflows", &ONE_OR_MORE),
            optional("types", &ONE_OR_MORE),
            optional("branches", &ONE_OR_MORE),
            optional("branches-ignore", &ONE_OR_MORE),
        ],
    ),
)]);

pub(super) const fn by_id(what: &'static str, value: &'static Shape) -> Mapping {
    Mapping {
        what,
        keys: &[],
        others: Others::Names(value),
        wrong: None,
    }
}

static WORKFLOW_CALL: Shape = event_body(&[(
    "",
    &closed(
        "`workflow_call`",
        &[
            optional("inputs", &CALL_INPUTS),
            optional("outputs", &CALL_OUTPUTS),
            optional("secrets", &CALL_SECRETS),
        ],
    ),
)]);
static CALL_INPUTS: Shape = declared(&[("", &by_id("`inputs`", &CALL_INPUT))]);
static CALL_OUTPUTS: Shape = declared(&[("", &by_id("`outputs`", &CALL_OUTPUT))]);
static CALL_SECRETS: Shape = declared(&[("", &by_id("`secrets`", &CALL_SECRET))]);

/// `inputs:` with nothing below is the same as without it.
pub(super) const fn declared(tables: &'static [(&'static str, &'static Mapping)]) -> Shape {
    Shape {
        null: Null::Allowed,
        ..mapping(tables)
    }
}

pub(super) static DESCRIPTION: Shape = Shape {
    null: Null::Allowed,
    ..scalar(Scalar::Text)
};
static CALL_INPUT: Shape = mapping(&[(
    "",
    &closed(
        "an input",
        &[
            required(
                "type",
                &scalar(Scalar::Word(&["string", "boolean", "number"])),
            ),
            optional("description", &DESCRIPTION),
            optional("required", &FLAG),
            optional("default", &TEXT),
            optional("deprecationMessage", &TEXT),
        ],
    ),
)]);
static CALL_OUTPUT: Shape = mapping(&[(
    "",
    &closed(
        "an output",
        &[
            required("value", &TEXT),
            optional("description", &DESCRIPTION),
        ],
    ),
)]);
static CALL_SECRET: Shape = event_body(&[(
    "",
    &closed(
        "a secret",
        &[
            optional("description", &DESCRIPTION),
            optional("required", &FLAG),
        ],
    ),
)]);
static WORKFLOW_DISPATCH: Shape = event_body(&[(
    "",
    &closed(
        "`workflow_dispatch`",
        &[optional("inputs", &DISPATCH_INPUTS)],
    ),
)]);
static DISPATCH_INPUTS: Shape = declared(&[("", &by_id("`inputs`", &DISPATCH_INPUT))]);
static DISPATCH_INPUT: Shape = Shape {
    null: Null::Allowed,
    ..mapping(&[(
        "",
        &closed(
            "an input",
            &[
                optional(
                    "type",
                    &scalar(Scalar::Word(&[
                        "string",
                        "boolean",
                        "number",
                        "choice",
                        "environment",
                    ])),
                ),
                optional("description", &DESCRIPTION),
                optional("required", &FLAG),
                optional("default", &TEXT),
                optional("options", &list(&TEXT)),
                optional("deprecationMessage", &TEXT),
            ],
        ),
    )])
};

// ---- what workflows and jobs share ----

static PERMISSIONS: Shape = Shape {
    mapping: &[("", &PERMISSION_KEYS)],
    ..scalar(Scalar::Word(&["read-all", "write-all"]))
};
static LEVEL: Shape = scalar(Scalar::Word(&["read", "write", "none"]));
static PERMISSION_KEYS: Mapping = closed(
    "`permissions`",
    &[
        optional("actions", &LEVEL),
        optional("artifact-metadata", &LEVEL),
        optional("attestations", &LEVEL),
        optional("checks", &LEVEL),
        optional("contents", &LEVEL),
        optional("copilot-requests", &LEVEL),
        optional("deployments", &LEVEL),
        optional("discussions", &LEVEL),
        optional("id-token", &LEVEL),
        optional("issues", &LEVEL),
        optional("models", &LEVEL),
        optional("packages", &LEVEL),
        optional("pages", &LEVEL),
        optional("pull-requests", &LEVEL),
        optional("repository-projects", &LEVEL),
        optional("security-events", &LEVEL),
        optional("statuses", &LEVEL),
        optional("vulnerability-alerts", &LEVEL),
    ],
);
static DEFAULTS: Shape = mapping(&[(
    "",
    &closed(
        "`defaults`",
        &[optional(
            "run",
            &mapping(&[(
                "",
                &closed(
                    "`defaults.run`",
                    &[
                        optional("shell", &FILLED),
                        optional("working-directory", &FILLED),
                    ],
                ),
            )]),
        )],
    ),
)]);
static CONCURRENCY: Shape = Shape {
    mapping: &[(
        "",
        &closed(
            "`concurrency`",
            &[
                required("group", &FILLED),
                optional("cancel-in-progress", &BOOL),
            ],
        ),
    )],
    ..scalar(Scalar::Filled)
};

// ---- jobs ----

static JOBS: Shape = mapping(&[(
    "",
    &Mapping {
        what: "`jobs`",
        keys: &[],
        others: Others::Ids(&JOB),
        wrong: None,
    },
)]);
static JOB: Shape = mapping(&[("uses", &CALL_JOB), ("", &STEPS_JOB)]);
static STEPS_JOB: Mapping = closed(
    "the job",
    &[
        optional("name", &TEXT),
        optional("permissions", &PERMISSIONS),
        optional("needs", &NEEDS),
        optional("if", &CONDITION),
        required("runs-on", &RUNS_ON),
        optional("environment", &ENVIRONMENT),
        optional("concurrency", &CONCURRENCY),
        optional("outputs", &mapping(&[("", &by_id("`outputs`", &TEXT))])),
        optional("env", &ENV),
        optional("defaults", &DEFAULTS),
        required("steps", &list(&STEP)),
        optional("timeout-minutes", &NUMBER),
        optional("strategy", &STRATEGY),
        optional("continue-on-error", &BOOL),
        optional("container", &CONTAINER),
        optional("services", &SERVICES),
        refused(
            "with",
            "`with` is not allowed in a job of steps",
            "`with` belongs to a step or job with `uses`",
        ),
        refused(
            "secrets",
            "`secrets` is not allowed in a job of steps",
            "`secrets` belongs to a job with `uses`; steps read the `secrets` context",
        ),
        refused(
            "snapshot",
            "`snapshot` (images made from runners) is not supported",
            "remove it; `vmint workflow run --snapshot-steps` freezes the machine before each step",
        ),
        no_effect(
            "cancel-timeout-minutes",
            &NUMBER,
            "a cancelled job has five minutes to clean up",
        ),
        no_effect(
            "cache-mode",
            &CACHE_MODE,
            "caches are kept on this host and can be read and written",
        ),
    ],
);
static CALL_JOB: Mapping = closed(
    "a job with `uses`",
    &[
        optional("name", &TEXT),
        optional("permissions", &PERMISSIONS),
        optional("needs", &NEEDS),
        optional("if", &CONDITION),
        optional("concurrency", &CONCURRENCY),
        optional("strategy", &STRATEGY),
        required("uses", &scalar(Scalar::Workflow)),
        optional("with", &mapping(&[("", &WITH_ENTRIES)])),
        optional(
            "secrets",
            &Shape {
                mapping: &[("", &by_id("`secrets`", &TEXT))],
                ..scalar(Scalar::Word(&["inherit"]))
            },
        ),
        refused(
            "steps",
            "the job has both `steps` and `uses`",
            "a job runs steps or calls a workflow; make two jobs of it",
        ),
        refused(
            "runs-on",
            "`runs-on` is not allowed in a job that calls a workflow",
            "remove it; the jobs of the called workflow say where they run",
        ),
        no_effect(
            "cache-mode",
            &CACHE_MODE,
            "caches are kept on this host and can be read and written",
        ),
    ],
);
static NEEDS: Shape = Shape {
    list: Some(&ID),
    ..scalar(Scalar::Id)
};
static RUNS_ON: Shape = Shape {
    list: Some(&FILLED),
    mapping: &[(
        "",
        &closed(
            "`runs-on`",
            &[optional("group", &FILLED), optional("labels", &ONE_OR_MORE)],
        ),
    )],
    ..scalar(Scalar::Filled)
};
static ENVIRONMENT: Shape = Shape {
    mapping: &[(
        "",
        &closed(
            "`environment`",
            &[
                required("name", &FILLED),
                optional("url", &TEXT),
                optional("deployment", &BOOL),
            ],
        ),
    )],
    ..scalar(Scalar::Filled)
};
static STRATEGY: Shape = mapping(&[(
    "",
    &closed(
        "`strategy`",
        &[
            optional("matrix", &MATRIX),
            optional("fail-fast", &BOOL),
            optional("max-parallel", &COUNT),
        ],
    ),
)]);
static MATRIX: Shape = Shape {
    mapping: &[(
        "",
        &Mapping {
            what: "`matrix`",
            keys: &[
                optional("include", &MATRIX_FILTER),
                optional("exclude", &MATRIX_FILTER),
            ],
            others: Others::Names(&MATRIX_VALUES),
            wrong: None,
        },
    )],
    ..scalar(Scalar::Expression)
};
static MATRIX_VALUES: Shape = Shape {
    list: Some(&ANY),
    ..scalar(Scalar::Expression)
};
static MATRIX_FILTER: Shape = Shape {
    list: Some(&mapping(&[("", &by_id("an entry of the matrix", &ANY))])),
    ..scalar(Scalar::Expression)
};
static CONTAINER: Shape = Shape {
    mapping: &[("", &CONTAINER_KEYS)],
    ..scalar(Scalar::Text)
};
static SERVICES: Shape = mapping(&[("", &by_id("`services`", &SERVICE))]);
static SERVICE: Shape = Shape {
    mapping: &[("", &SERVICE_KEYS)],
    ..scalar(Scalar::Text)
};
static CREDENTIALS: Shape = mapping(&[(
    "",
    &closed(
        "`credentials`",
        &[optional("username", &TEXT), optional("password", &TEXT)],
    ),
)]);
static CONTAINER_KEYS: Mapping = closed(
    "`container`",
    &[
        required("image", &TEXT),
        optional("credentials", &CREDENTIALS),
        optional("env", &ENV),
        optional("ports", &TEXTS),
        optional("volumes", &TEXTS),
        optional("options", &TEXT),
    ],
);
static SERVICE_KEYS: Mapping = closed(
    "a service",
    &[
        required("image", &TEXT),
        optional("credentials", &CREDENTIALS),
        optional("env", &ENV),
        optional("ports", &TEXTS),
        optional("volumes", &TEXTS),
        optional("options", &TEXT),
        optional("command", &TEXT),
        optional("entrypoint", &TEXT),
    ],
);

// ---- steps ----

static STEP: Shape = mapping(&[
    ("uses", &USES_STEP),
    ("run", &RUN_STEP),
    ("parallel", &BACKGROUND_STEP),
    ("wait", &BACKGROUND_STEP),
    ("wait-all", &BACKGROUND_STEP),
    ("cancel", &BACKGROUND_STEP),
    ("", &EMPTY_STEP),
]);
pub(super) const BACKGROUND: &str = "steps in the background are not supported";
pub(super) const BACKGROUND_HELP: &str = "run the steps one after the other, or start the process in the script with `&` and wait for it there";
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
        optional("timeout-minutes", &NUMBER),
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
        refused(
            "working-directory",
            "`working-directory` is not allowed in a step with `uses`",
            "`working-directory` belongs to steps with `run`",
        ),
        refused("background", BACKGROUND, BACKGROUND_HELP),
    ],
);
static RUN_STEP: Mapping = closed(
    "a step with `run`",
    &[
        optional("name", &TEXT),
        optional("id", &ID),
        optional("if", &CONDITION),
        required("run", &TEXT),
        optional("shell", &FILLED),
        optional("working-directory", &FILLED),
        optional("env", &ENV),
        optional("continue-on-error", &BOOL),
        optional("timeout-minutes", &NUMBER),
        refused(
            "with",
            "`with` is not allowed in a step with `run`",
            "pass values by `env`",
        ),
        refused("background", BACKGROUND, BACKGROUND_HELP),
    ],
);
static BACKGROUND_STEP: Mapping = Mapping {
    what: "a step",
    keys: &[
        refused("parallel", BACKGROUND, BACKGROUND_HELP),
        refused("wait", BACKGROUND, BACKGROUND_HELP),
        refused("wait-all", BACKGROUND, BACKGROUND_HELP),
        refused("cancel", BACKGROUND, BACKGROUND_HELP),
    ],
    others: Others::Ignored,
    wrong: None,
};
/// A step with neither: its keys are those of both, so that what is misspelt is found.
static EMPTY_STEP: Mapping = Mapping {
    what: "a step",
    others: Others::Refused,
    wrong: Some((
        "the step has neither `run` nor `uses`",
        "a step runs a script or uses an action",
    )),
    keys: &[
        optional("name", &TEXT),
        optional("id", &ID),
        optional("if", &CONDITION),
        optional("run", &TEXT),
        optional("uses", &FILLED),
        optional("with", &WITH),
        optional("shell", &FILLED),
        optional("working-directory", &FILLED),
        optional("env", &ENV),
        optional("continue-on-error", &BOOL),
        optional("timeout-minutes", &NUMBER),
    ],
};
