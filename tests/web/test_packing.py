"""Packing of the live page: what may go, and what has to stay."""

from __future__ import annotations

import pytest

from election.web.packing import pack_document, pack_script, pack_style


@pytest.mark.parametrize(
    ("source", "packed"),
    [
        ("// a comment\nconst a = 1; // another\n", "let a=1;"),
        ('say("// no comment,  { and } stay");', 'say("// no comment,  { and } stay");'),
        ('say("a \\" quote  ");', 'say("a \\" quote  ");'),
        ("function f(a, b) {\n  return a + b;\n}\nf(1, 2);", "function f(a,b){return a+b}f(1,2);"),
        ("for (const each of [1, 2]) use(each);", "for(let each of[1,2])use(each);"),
        ("a = b + +c; d = e - -f; g++;", "a=b+ +c;d=e- -f;g++;"),
        ("if (a) b();\nelse c();", "if(a)b();else c();"),
        ("for (;;) {\n  a();\n}", "for(;;){a()}"),
        ("`a  b`;", "`a  b`;"),
        ("`a  ${ b + c }  d`;", "`a  ${b+c}  d`;"),
        ("`${ a ? `  ${ b }  ` : { c: [ 1 ] }.c }  // stays`;", "`${a?`  ${b}  `:{c:[1]}.c}  // stays`;"),
        ("`\\`  \\${  $ `;", "`\\`  \\${  $ `;"),
        ("const a = 1;\nconst b = () => {\n  let c;\n  let d = [1];\n};\nlet e;\n", "let a=1,b=()=>{let c,d=[1]},e;"),
        ("let a;\nb();\nlet c;\nif (d) {\n}\nlet e;", "let a;b();let c;if(d){}let e;"),
        ("for (const a of b) c();\nlet d;\nlet e = `${f}`;\nlet g;", "for(let a of b)c();let d,e=`${f}`,g;"),
        ("let a;\n[b] = c;\nlet d;\n(e)();\nlet f;", "let a;[b]=c;let d;(e)();let f;"),
        ("f((a) => b, async (c) => d, (e, f) => g, (h) >= i);", "f(a=>b,async(c)=>d,(e,f)=>g,(h)>=i);"),
        ("return (a) => [true, false, a ?? -Infinity];", "return(a)=>[!0,!1,a??-1/0];"),
        ("async () => {\n  await b;\n};", "async()=>{await b};"),
    ],
)
def test_a_script(source: str, packed: str) -> None:
    assert pack_script(source) == packed
    assert pack_script(packed) == packed, "there is nothing more to gain"


def test_a_template_without_an_end_is_an_error() -> None:
    with pytest.raises(AssertionError, match="a template has no end"):
        pack_script("`a ${b} c")


def test_a_style_and_a_document() -> None:
    assert pack_style("a {\n  color: red;\n}\n\n@media (min-width: 1px) {\n  b, i { top: 0; }\n}\n") == (
        "a{color:red}@media (min-width:1px){b,i{top:0}}"
    )
    assert pack_document('<p id="a" class="b c">\n  a b\n\n<i lang="en"></i><br id="d"/></p>\n') == (
        '<p id=a class="b c">\na b\n<i lang=en></i><br id="d"/></p>'
    )
