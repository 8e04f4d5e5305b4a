//! Columns that line up, whatever is in them.

use std::fmt;

/// Spaces between two columns.
const GAP: usize = 2;

/// On which side a column's texts stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    Left,
    Right,
}

/// A table whose first row is its head.
#[derive(Debug)]
pub struct Table {
    sides: Vec<Side>,
    rows: Vec<Vec<String>>,
    /// Spaces before each row.
    indent: usize,
}

impl Table {
    pub fn new(indent: usize, columns: &[(&str, Side)]) -> Self {
        let head = columns.iter().map(|(title, _)| (*title).to_owned()).collect();
        Self { sides: columns.iter().map(|(_, side)| *side).collect(), rows: vec![head], indent }
    }

    /// Adds a row with a text for each column.
    pub fn row(&mut self, row: impl IntoIterator<Item = String>) {
        self.rows.push(row.into_iter().collect());
    }

    fn widths(&self) -> Vec<usize> {
        let width = |column: usize| {
            let texts = self.rows.iter().filter_map(|row| row.get(column));
            texts.map(|text| text.chars().count()).max().unwrap_or_default()
        };
        (0..self.sides.len()).map(width).collect()
    }
}

impl fmt::Display for Table {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let widths = self.widths();
        for row in &self.rows {
            let mut line = String::new();
            for ((text, width), side) in row.iter().zip(&widths).zip(&self.sides) {
                match side {
                    Side::Left => line.push_str(&format!("{text:<width$}")),
                    Side::Right => line.push_str(&format!("{text:>width$}")),
                }
                line.push_str(&" ".repeat(GAP));
            }
            writeln!(formatter, "{:indent$}{}", "", line.trim_end(), indent = self.indent)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_longest_text() {
        let mut table = Table::new(2, &[("NAME", Side::Left), ("SENT", Side::Right), ("", Side::Left)]);
        table.row(["größer".into(), "1".into(), "blocked".into()]);
        table.row(["x".into(), "12345".into(), String::new()]);
        assert_eq!(table.to_string(), "  NAME     SENT\n  größer      1  blocked\n  x       12345\n");
    }
}
