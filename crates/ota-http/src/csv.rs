//! Comma-separated values (RFC 4180) that spreadsheets can open without running what stands in them.

/// A line of cells, with its end.
pub(crate) fn row<T: AsRef<str>>(cells: &[T]) -> String {
    let cells: Vec<String> = cells.iter().map(|text| cell(text.as_ref())).collect();
    cells.join(",") + "\r\n"
}

/// Quoted where needed; a leading sign that spreadsheets take for a formula is disarmed.
fn cell(text: &str) -> String {
    let armed = text.starts_with(['=', '+', '-', '@', '\t', '\r']);
    let cell = if armed { format!("'{text}") } else { text.to_owned() };
    if cell.contains([',', '"', '\r', '\n']) { format!("\"{}\"", cell.replace('"', "\"\"")) } else { cell }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_are_quoted_and_formulas_disarmed() {
        assert_eq!(row(&["plain", "a,\"b\"", ""]), "plain,\"a,\"\"b\"\"\",\r\n");
        assert_eq!(row(&["=cmd|' /C calc'!A0"]), "'=cmd|' /C calc'!A0\r\n");
    }
}
