//! What fields may use, and what their values must be.

use super::*;

#[test]
fn what_github_does_not_allow_in_a_field_of_a_step_is_refused() {
    let text = steps(
        "- if: secrets.TOKEN != ''\n  run: x\n- run: |\n    echo ok\n    echo ${{ success() }} ${{ jobs.a.result }}\n- run: x\n  shell: ${{ matrix.shell }}\n\
         - name: ${{ always() && github.sha }}\n  run: echo ${{ secrets.TOKEN }}${{ hashFiles('a') }}\n  env: {A: \"${{ steps.x }}\"}",
    );
    insta::assert_snapshot!(said(&text), @r"
    ci.yml:6:13: error: the context `secrets` is not available in `if` of a step
        help: say in `env` of the job whether it is there (`HAS_IT: ${{ secrets.IT != '' }}`), and test `env.HAS_IT == 'true'`; available there: github, needs, strategy, matrix, job, runner, env, vars, steps, inputs
    ci.yml:10:20: error: `success()` is not available in `run` of a step
        help: the status is known in `if` only
    ci.yml:10:37: error: the context `jobs` is not available in `run` of a step
        help: available there: github, needs, strategy, matrix, job, runner, env, vars, secrets, steps, inputs
    ci.yml:12:20: error: the context `matrix` is not available in `shell` of a step
        help: set it as `defaults.run.shell` of the job, which may use `matrix`; no context is available there
    ci.yml:13:19: error: `always()` is not available in `name` of a step
        help: the status is known in `if` only
    ci.yml:15:23: warning: there is no step with the id `x`
        help: its outputs are empty; give the step that is meant an `id`
    ");
}

#[test]
fn what_github_does_not_allow_in_a_field_of_a_job_is_refused() {
    let text = "run-name: ${{ env.A }}\non: push\nenv: {B: '${{ matrix.x }}'}\ndefaults: {run: {shell: '${{ vars.SHELL }}'}}\njobs:\n  a:\n    if: secrets.X && matrix.os == 'a' && env.A\n    runs-on: ${{ env.LABEL }}\n    env: {A: \"${{ env.B }}${{ runner.os }}\"}\n    timeout-minutes: ${{ hashFiles('x') }}\n    outputs: {o: '${{ always() }}'}\n    strategy: {matrix: {os: ['${{ matrix.b }}', '${{ vars.O }}']}}\n    steps: [{run: x}]\n";
    insta::assert_snapshot!(said(text), @r"
    ci.yml:1:15: error: the context `env` is not available in `run-name`
        help: use `vars`; available there: github, inputs, vars
    ci.yml:3:15: error: the context `matrix` is not available in `env` of the workflow
        help: available there: github, secrets, inputs, vars
    ci.yml:4:30: error: the context `vars` is not available in `defaults` of the workflow
        help: no context is available there
    ci.yml:7:9: error: the context `secrets` is not available in `if` of a job
        help: let a job before this one test it, and read its output from `needs`; available there: github, needs, vars, inputs
    ci.yml:7:22: error: the context `matrix` is not available in `if` of a job
        help: it is decided before the matrix makes jobs; put the condition on the steps, or use `exclude`; available there: github, needs, vars, inputs
    ci.yml:7:42: error: the context `env` is not available in `if` of a job
        help: use `vars`, or the output of a job before, from `needs`; available there: github, needs, vars, inputs
    ci.yml:8:18: error: the context `env` is not available in `runs-on`
        help: use `vars`, or the output of a job before, from `needs`; available there: github, needs, strategy, matrix, vars, inputs
    ci.yml:9:19: error: the context `env` is not available in `env` of a job
        help: use `vars`, or the output of a job before, from `needs`; available there: github, needs, strategy, matrix, vars, secrets, inputs
    ci.yml:9:31: error: the context `runner` is not available in `env` of a job
        help: available there: github, needs, strategy, matrix, vars, secrets, inputs
    ci.yml:10:26: error: `hashFiles()` is not available in `timeout-minutes` of a job
        help: files are known in steps only; hand the digest on as an output
    ci.yml:11:23: error: `always()` is not available in `outputs` of a job
        help: the status is known in `if` only
    ci.yml:12:35: error: the context `matrix` is not available in `strategy`
        help: available there: github, needs, vars, inputs
    ci.yml:12:35: warning: the matrix of the job has no key `b`
        help: it is empty
    ");
}

#[test]
fn an_action_sees_neither_secrets_nor_what_its_caller_needs() {
    let action = "inputs:\n  who: {default: '${{ github.actor }}${{ inputs.a }}'}\noutputs:\n  o: {value: '${{ secrets.O }}'}\nruns:\n  using: composite\n  steps:\n  - run: echo ${{ secrets.X }} ${{ needs.a.result }} ${{ vars.V }} ${{ inputs.who }} ${{ env.A }}\n    shell: bash\n    if: failure() && secrets.X\n    env: {A: '${{ secrets.X }}', B: '${{ always() }}'}\n";
    let docker = "runs:\n  using: docker\n  image: docker://x\n  args: ['${{ github.sha }}', '${{ inputs.a }}']\n";
    let node =
        "runs: {using: node20, main: m.js, post: m.js, post-if: \"success() && secrets.X\"}\n";
    let repository = Repository::new(&[
        ("c/action.yml", action),
        ("d/action.yml", docker),
        ("n/action.yml", node),
        ("n/m.js", ""),
    ]);
    let text = steps("- uses: actions/checkout@v4\n- uses: ./c\n- uses: ./d\n- uses: ./n");
    insta::assert_snapshot!(repository.said(&text), @r"
    c/action.yml:2:42: error: the context `inputs` is not available in the default of an action's input
        help: available there: github, strategy, matrix, job, runner
    c/action.yml:4:19: error: the context `secrets` is not available in an output of an action
        help: give it to the action as an input, and read it from `inputs`; available there: github, inputs, strategy, matrix, steps, job, runner, env
    c/action.yml:8:19: error: the context `secrets` is not available in a step of an action
        help: give it to the action as an input, and read it from `inputs`; available there: github, inputs, strategy, matrix, steps, job, runner, env
    c/action.yml:8:36: error: the context `needs` is not available in a step of an action
        help: give it to the action as an input, and read it from `inputs`; available there: github, inputs, strategy, matrix, steps, job, runner, env
    c/action.yml:8:58: error: the context `vars` is not available in a step of an action
        help: give it to the action as an input, and read it from `inputs`; available there: github, inputs, strategy, matrix, steps, job, runner, env
    c/action.yml:10:22: error: the context `secrets` is not available in a step of an action
        help: give it to the action as an input, and read it from `inputs`; available there: github, inputs, strategy, matrix, steps, job, runner, env
    c/action.yml:11:19: error: the context `secrets` is not available in a step of an action
        help: give it to the action as an input, and read it from `inputs`; available there: github, inputs, strategy, matrix, steps, job, runner, env
    c/action.yml:11:42: error: `always()` is not available in a step of an action
        help: the status is known in `if` only
    d/action.yml:4:15: error: the context `github` is not available in `runs` of a container action
        help: available there: inputs
    n/action.yml:1:70: error: the context `secrets` is not available in `pre-if` and `post-if` of an action
        help: give it to the action as an input, and read it from `inputs`; available there: github, inputs, strategy, matrix, job, runner, env
    ");
}

#[test]
fn conditions_with_a_line_break_around_them_are_told() {
    let text =
        steps("- if: |\n    ${{ github.ref == 'x' }}\n  run: x\n- if: ' ${{ false }}'\n  run: x");
    insta::assert_snapshot!(said(&text), @r"
    ci.yml:7:11: warning: the condition is always true: space or a line break around `${{ }}` makes all of it a text
        help: remove it (a block ends without a line break as `|-`), or leave `${{ }}` out
    ci.yml:9:13: warning: the condition is always true: space or a line break around `${{ }}` makes all of it a text
        help: remove it (a block ends without a line break as `|-`), or leave `${{ }}` out
    ");
}

#[test]
fn a_wrong_expression_does_not_hide_another_of_its_text() {
    let text = steps(
        "- run: ${{ frob(1) }} ${{ contains('a') }} ${{ steps.nothing.outputs.x }} ${{ x || y.z }}",
    );
    insta::assert_snapshot!(said(&text), @r"
    ci.yml:6:18: error: unknown function `frob`
        help: the functions are contains, startsWith, endsWith, format, join, toJSON, fromJSON, hashFiles, case, success, failure, always, cancelled
    ci.yml:6:33: error: `contains` takes exactly 2 arguments
    ci.yml:6:54: warning: there is no step with the id `nothing`
        help: its outputs are empty; give the step that is meant an `id`
    ci.yml:6:85: error: unknown context `x`
        help: the contexts are github, env, vars, job, jobs, steps, runner, secrets, strategy, matrix, needs, inputs; text needs single quotes
    ci.yml:6:90: error: unknown context `y`
        help: the contexts are github, env, vars, job, jobs, steps, runner, secrets, strategy, matrix, needs, inputs; text needs single quotes
    ");
}

#[test]
fn time_limits_are_at_least_a_second_and_whole_minutes_on_github() {
    let text = "on: push\njobs:\n  a:\n    runs-on: x\n    timeout-minutes: 1.5\n    steps:\n    - {run: x, timeout-minutes: 0.05}\n    - {run: x, timeout-minutes: 0}\n    - {run: x, timeout-minutes: 0.001}\n    - {run: x, timeout-minutes: 10}\n    - {run: x, timeout-minutes: '${{ 0.5 }}'}\n";
    insta::assert_snapshot!(said(text), @r"
    ci.yml:5:22: warning: `timeout-minutes` is 1.5, but GitHub counts whole minutes
        help: here it is 90 s; GitHub drops the fraction
    ci.yml:7:33: warning: `timeout-minutes` is 0.05, but GitHub counts whole minutes
        help: here it is 3 s; GitHub drops the fraction
    ci.yml:8:33: error: `timeout-minutes` is 0, which is too short
        help: give a number of minutes; the shortest limit is a second, 0.017
    ci.yml:9:33: error: `timeout-minutes` is 0.001, which is too short
        help: give a number of minutes; the shortest limit is a second, 0.017
    ");
}
