//! Expressions, conditions and shells.

use super::*;
use crate::expr::{inspect, inspect_condition};
use proptest::prelude::*;

#[test]
fn expressions_are_checked_at_their_place_in_the_file() {
    let text = steps(
        "- run: |\n    echo ok ${{ github.sha }}\n    echo ${{ gihtub.sha }} ${{ github.sha\n- run: \"x ${{ \\\"a\\\" }}\"\n- if: succes()\n  run: x\n\
         - if: github.ref = 'x'\n  run: x\n- name: ${{ }}\n  run: x\n- run: ${{ toJSON() }} ${{ 1 + 1 }}\n- run: ${{ always }}\n- if: ''\n  run: x",
    );
    insta::assert_snapshot!(said(&text), @r"
    ci.yml:8:20: error: unknown context `gihtub`
        help: did you mean `github`?
    ci.yml:8:34: error: the expression that begins here is not closed
        help: close it with `}}`; text inside it needs single quotes
    ci.yml:9:22: error: the expression is wrong here: unexpected symbol
        help: text needs single quotes: 'like this'
    ci.yml:10:13: error: unknown function `succes`
        help: did you mean `success`?
    ci.yml:12:24: error: the expression is wrong here: expected `==`
        help: compare with `==`
    ci.yml:14:18: error: the expression is empty
        help: write an expression, or remove `${{ }}`
    ci.yml:16:18: error: `toJSON` takes exactly 1 argument
    ci.yml:16:36: error: the expression is wrong here: invalid numeric literal
        help: expressions have no arithmetic; compute it in a `run` step
    ci.yml:17:18: error: unknown context `always`
        help: to call the function, write `always()`
    ci.yml:18:13: warning: the condition is empty
        help: remove it, or write an expression
    ");
}

#[test]
fn conditions_that_are_always_true_are_told() {
    let text = steps(
        "- if: ${{ github.ref == 'x' }} && true\n  run: x\n- if: ${{ 'false' }}\n  run: x\n- if: \"'no'\"\n  run: x\n- if: ${{ github.ref }}\n  run: x\n\
         - if: ' ${{ a }} '\n  run: x",
    );
    insta::assert_snapshot!(said(&text), @r"
    ci.yml:6:13: warning: the condition is always true: text around `${{ }}` makes all of it a text
        help: put the whole condition into one `${{ }}`, or leave `${{ }}` out
    ci.yml:8:13: warning: the condition is always true: it is a text
        help: remove the quotes within the expression, or compare the text with something
    ci.yml:10:13: warning: the condition is always true: it is a text
        help: remove the quotes within the expression, or compare the text with something
    ci.yml:14:19: error: unknown context `a`
        help: the contexts are github, env, vars, job, jobs, steps, runner, secrets, strategy, matrix, needs, inputs; text needs single quotes
    ");
}

#[test]
fn names_that_are_not_there_are_told() {
    let text = "on: push\njobs:\n  one:\n    runs-on: x\n    outputs: {o: '${{ steps.fisrt.outputs.x }}'}\n    steps:\n    - run: ${{ steps.second.outputs.x }}\n    - id: first\n      run: x\n    - id: second\n      run: ${{ steps['first'].outputs.x }}\n  two:\n    runs-on: x\n    if: needs.one.result == 'success'\n    steps:\n    - run: ${{ needs.tow.outputs.x }}\n";
    insta::assert_snapshot!(said(text), @r"
    ci.yml:5:23: warning: there is no step with the id `fisrt`
        help: did you mean `first`?
    ci.yml:7:16: warning: `steps.second` is read before the step `second` (number 3) has run
        help: its outputs are empty here; move the step or the reference
    ci.yml:14:9: warning: `needs.one` is read, but the job does not need `one`
        help: it is empty; add `one` to `needs` of the job
    ci.yml:16:16: warning: there is no job `tow`
        help: did you mean `two`?
    ");
}

#[test]
fn shells_are_known_or_templates() {
    let text = steps(
        "- {run: x, shell: pwsh}\n- {run: x, shell: bsh}\n- {run: x, shell: perl}\n- {run: x, shell: 'perl {0}'}\n- {run: x, shell: cmd}",
    );
    insta::assert_snapshot!(said(&text), @r"
    ci.yml:6:25: error: the shell `pwsh` is not supported
        help: use bash, sh or python; if the image has PowerShell, write `shell: pwsh -File {0}`
    ci.yml:7:25: error: the shell `bsh` is not known
        help: did you mean `bash`?
    ci.yml:8:25: error: the shell `perl` is not known
        help: use bash, sh or python, or a template such as `perl {0}`
    ci.yml:10:25: error: the shell `cmd` is not supported
        help: use bash, sh or python; if the image has PowerShell, write `shell: pwsh -File {0}`
    ");
}

proptest! {
    #[test]
    fn any_expression_is_inspected(text in "(\\$\\{\\{|\\}\\}|[a-z'\"().\\[\\]*&|=<>! é0-9,]|github|steps\\.|contains\\(){0,30}") {
        for inspection in [inspect(&text), inspect_condition(&text)] {
            for wrong in inspection.wrong {
                prop_assert!(text.is_char_boundary(wrong.offset), "{wrong:?}");
            }
            for used in inspection.uses {
                prop_assert!(text.is_char_boundary(used.offset), "{used:?}");
            }
        }
    }
}
