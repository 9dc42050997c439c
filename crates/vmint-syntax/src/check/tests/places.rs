//! Labels, what their image lacks, and what is not selected.

use super::*;

#[test]
fn labels_are_looked_up_and_what_their_image_lacks_is_told() {
    let text = r"
on: push
jobs:
  a:
    runs-on: nothing
    steps: [{run: x}]
  b:
    strategy: {matrix: {on: [bare, [some, other], gone, bare]}}
    runs-on: ${{ matrix.on }}
    steps:
      - {uses: o/node@v1}
      - {uses: actions/setup-go@v5, if: false}
      - {uses: actions/checkout@v4, with: {repository: other/one}}
      - {uses: actions/checkout@v4, with: {repository: O/Own}}
      - {uses: actions/checkout@v4, with: {repository: '${{ env.X }}'}}
  c:
    runs-on: ${{ vars.ON }}
    steps: [{uses: o/node@v1}]
";
    insta::assert_snapshot!(said_of(text, &[], &[]), @r#"
    5: error: no machine is known for ["nothing"]
    8: error: no machine is known for ["gone"]
    9: warning: it is another one
    11: error: `o/node@v1` (`using: node20`) needs Node.js, which `bare` does not have
    12: warning: `actions/setup-go@v5` needs Go if it is reached, and `bare` does not have it
    12: warning: `actions/setup-go@v5` needs Go, and no package of `some` is known to bring it
    13: error: the repository other/one is not o/own, and vmint fetches nothing
    "#);
}

#[test]
fn what_is_not_selected_gives_notes_and_what_both_use_is_an_error() {
    let text = r"
on: push
jobs:
  mac:
    runs-on: macos-14
    steps: [{uses: o/absent@v1}, {uses: o/shared@v1}]
  lint:
    runs-on: some
    needs: before
    steps: [{run: x}]
  before:
    strategy: {matrix: {on: [some, windows-2022]}}
    runs-on: ${{ matrix.on }}
    steps: [{run: x}]
";
    insta::assert_snapshot!(said_of(text, &["lint"], &[("on", "some")]), @r"
    5: note: `macos-14` is macOS, but machines run Linux
    6: note: the action `o/absent@v1` is not available
    6: note: the action `o/shared@v1` is not available
    12: note: `windows-2022` is Windows, but machines run Linux
    ");
    let both = text.replace("{run: x}", "{uses: o/shared@v1}");
    insta::assert_snapshot!(said_of(&both, &["LINT"], &[]), @r"
    5: note: `macos-14` is macOS, but machines run Linux
    6: note: the action `o/absent@v1` is not available
    6: note: the action `o/shared@v1` is not available
    10: error: the action `o/shared@v1` is not available
    12: error: `windows-2022` is Windows, but machines run Linux
    14: error: the action `o/shared@v1` is not available
    ");
}
