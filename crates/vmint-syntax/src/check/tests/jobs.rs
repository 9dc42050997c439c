//! How jobs hang together: `needs`, names, matrices.

use super::*;

#[test]
fn needs_are_jobs_and_make_no_circle() {
    let job = |id: &str, needs: &str| {
        format!("  {id}:\n    needs: [{needs}]\n    runs-on: x\n    steps: [{{run: x}}]\n")
    };
    let jobs = [
        ("build", "tset"),
        ("test", "build"),
        ("a", "c"),
        ("b", "a"),
        ("c", "b"),
        ("self", "self"),
    ];
    let jobs: String = jobs.iter().map(|(id, needs)| job(id, needs)).collect();
    insta::assert_snapshot!(said(&format!("on: push\njobs:\n{jobs}")), @r"
    ci.yml:4:13: error: the job `build` needs `tset`, which is not there
        help: did you mean `test`?
    ci.yml:16:13: error: jobs need each other in a circle: `a` → `c` → `b` → `a`
        help: remove one of these from `needs`
    ci.yml:24:13: error: jobs need each other in a circle: `self` → `self`
        help: remove one of these from `needs`
    ");
}

#[test]
fn a_job_is_needed_by_its_name_whatever_its_case_and_names_differ_by_more() {
    let job = |id: &str, needs: &str| {
        format!("  {id}:\n    needs: [{needs}]\n    runs-on: x\n    steps: [{{run: x}}]\n")
    };
    let jobs = job("build", "") + &job("test", "Build");
    assert_eq!(said(&format!("on: push\njobs:\n{jobs}")), "");
    let twins = jobs + &job("Build", "");
    insta::assert_snapshot!(said(&format!("on: push\njobs:\n{twins}")), @r"
    ci.yml:11:3: error: the key `Build` is already defined at 3:3
        help: keep one of the two; keys that differ only in case are the same
    ");
}

#[test]
fn matrices_make_some_jobs_but_not_too_many() {
    let job = |matrix: &str| {
        format!(
            "on: push\njobs:\n  a:\n    runs-on: x\n    strategy:\n      matrix: {matrix}\n    steps: [{{run: 'echo ${{{{ matrix.oz }}}}'}}]\n"
        )
    };
    let hundred = format!("[{}]", ["x"; 17].join(", "));
    let all = [
        job("{}"),
        job("{os: []}"),
        job(&format!("{{a: {hundred}, b: {hundred}}}")),
        job("{os: [a, b], exclude: [{so: a}]}"),
        job("${{ fromJSON(x) }}"),
        job("{os: [1]}"),
    ];
    let all = all.map(|text| said(&text));
    insta::assert_snapshot!(all.join("\n--\n"), @r"
    ci.yml:6:15: error: the matrix is empty
        help: give it a key with a list of values, or `include`
    ci.yml:7:29: warning: the matrix of the job has no key `oz`
        help: it is empty
    --
    ci.yml:6:16: error: `os` of the matrix is empty, so no job would run
        help: give it a value, or remove it
    ci.yml:7:29: warning: the matrix of the job has no key `oz`
        help: did you mean `os`?
    --
    ci.yml:6:15: error: the matrix makes 289 jobs, more than 256
        help: use fewer values, or split the job
    ci.yml:7:29: warning: the matrix of the job has no key `oz`
        help: it is empty
    --
    ci.yml:6:39: error: `exclude` names `so`, which is not a key of the matrix
        help: did you mean `os`?
    ci.yml:7:29: warning: the matrix of the job has no key `oz`
        help: did you mean `os`?
    --
    ci.yml:6:28: error: unknown context `x`
        help: the contexts are github, env, vars, job, jobs, steps, runner, secrets, strategy, matrix, needs, inputs; text needs single quotes
    --
    ci.yml:7:29: warning: the matrix of the job has no key `oz`
        help: did you mean `os`?
    ");
}
