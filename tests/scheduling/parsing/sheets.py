"""Builds the smallest XLSX files that Excel could have written."""

import io
import zipfile
from xml.sax.saxutils import escape

MAIN = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
OFFICE = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
PACKAGE = "http://schemas.openxmlformats.org/package/2006/relationships"

# Style 1 shows thousands, 2 two decimals, 3 a date, 4 a format of its own that is a date, 5 one that is none.
STYLES = (
    f'<styleSheet xmlns="{MAIN}"><numFmts count="2"><numFmt numFmtId="164" formatCode="dd\\.mm\\.yyyy"/>'
    '<numFmt numFmtId="165" formatCode="&quot;days&quot;\\ #,##0\\ [Red]"/></numFmts>'
    '<cellStyleXfs count="1"><xf numFmtId="14"/></cellStyleXfs>'
    '<cellXfs count="6"><xf numFmtId="0"/><xf numFmtId="3"/><xf numFmtId="2"/><xf numFmtId="14"/>'
    '<xf numFmtId="164"/><xf numFmtId="165"/></cellXfs></styleSheet>'
)


def number(value, style=0):
    return f's="{style}"', f"<v>{value}</v>"


def text(value):
    return 't="inlineStr"', f"<is><t>{escape(value)}</t></is>"


def shared(position):
    return 't="s"', f"<v>{position}</v>"


def raw(facts, inside):
    return facts, inside


def sheet_xml(rows, hidden=(), more=""):
    """rows: row number to {column letter: cell}."""
    body = ""
    for at, cells in rows.items():
        hide = ' hidden="1"' if at in hidden else ""
        inside = "".join(
            f'<c r="{column}{at}" {facts}>{value}</c>' for column, (facts, value) in cells.items()
        )
        body += f'<row r="{at}"{hide}>{inside}</row>'
    return f'<?xml version="1.0"?>\n<worksheet xmlns="{MAIN}"><sheetData>{body}{more}</sheetData></worksheet>'


def workbook(sheets, *, texts=(), states=None, styles=STYLES, facts=""):
    """sheets: name to sheet XML. facts: XML before the list of sheets."""
    states = states or {}
    parts = {
        "_rels/.rels": relations([("officeDocument", "xl/workbook.xml")]),
        "xl/styles.xml": styles,
        "xl/sharedStrings.xml": f'<sst xmlns="{MAIN}">'
        + "".join(f"<si><t>{escape(item)}</t></si>" for item in texts)
        + "</sst>",
    }
    listed, related = "", []
    for number, (name, xml) in enumerate(sheets.items(), 1):
        parts[f"xl/worksheets/sheet{number}.xml"] = xml
        state = f' state="{states[name]}"' if name in states else ""
        listed += f'<sheet name="{escape(name)}" sheetId="{number}"{state} r:id="rId{number}"/>'
        related.append(("worksheet", f"worksheets/sheet{number}.xml"))
    related += [("styles", "styles.xml"), ("sharedStrings", "sharedStrings.xml")]
    parts["xl/workbook.xml"] = (
        f'<workbook xmlns="{MAIN}" xmlns:r="{OFFICE}">{facts}<sheets>{listed}</sheets></workbook>'
    )
    parts["xl/_rels/workbook.xml.rels"] = relations(related)
    return archive(parts)


def relations(targets):
    lines = "".join(
        f'<Relationship Id="rId{number}" Type="{OFFICE}/{kind}" Target="{target}"/>'
        for number, (kind, target) in enumerate(targets, 1)
    )
    return f'<Relationships xmlns="{PACKAGE}">{lines}</Relationships>'


def archive(parts):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as into:
        for path, content in parts.items():
            # Without the time of day: processes that run tests beside each other have to collect the same ones.
            into.writestr(zipfile.ZipInfo(path), content, zipfile.ZIP_DEFLATED)
    return out.getvalue()
