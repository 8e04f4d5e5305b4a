//! A matrix product by several processes over one region: each computes every other row, and a barrier says when all are done.
//!
//! The processes are this program, started again.

use std::error::Error;
use std::process::Command;

use tidepost::zerocopy::IntoBytes;
use tidepost::{Barrier, ByteRegion, Node, Shared};

const PROCESSES: usize = 4;
/// Rows and columns.
const SIDE: usize = 120;
const MATRIX_BYTES: usize = SIDE * SIDE * 8;

#[derive(Shared)]
#[repr(C)]
struct Meeting {
    all_done: Barrier,
}

type Row = [u64; SIDE];

fn main() -> Result<(), Box<dyn Error>> {
    let node = Node::open("matrix")?;
    let mut arguments = std::env::args().skip(1);
    if let (Some(name), Some(number)) = (arguments.next(), arguments.next()) {
        return multiply(&node, &name, number.parse()?);
    }
    let name = format!("matrix/{}", std::process::id());
    let meeting = node.region::<Meeting>(&name);
    let meeting = meeting.create_with(|place| place.all_done.set_participants(PROCESSES as u32 + 1))?;
    // Two factors, and the product.
    let cells = cells_of(&name);
    let matrices = node.region_bytes(&cells).create(3 * MATRIX_BYTES)?;
    for row in 0..SIDE {
        let first: Row = std::array::from_fn(|column| (row + column) as u64);
        let second: Row = std::array::from_fn(|column| u64::from(row == column) * 3);
        write_row(&matrices, 0, row, &first)?;
        write_row(&matrices, 1, row, &second)?;
    }
    let program = std::env::current_exe()?;
    let started =
        (0..PROCESSES).map(|number| Command::new(&program).args([&name, &number.to_string()]).spawn());
    let mut processes = started.collect::<Result<Vec<_>, _>>()?;
    meeting.all_done.wait();
    // The second factor is three times the identity.
    let mut is_right = true;
    for row in 0..SIDE {
        let expected: Row = std::array::from_fn(|column| 3 * (row + column) as u64);
        is_right &= read_row(&matrices, 2, row)? == expected;
    }
    println!("{SIDE} x {SIDE} by {PROCESSES} processes: {}", if is_right { "right" } else { "wrong" });
    for process in &mut processes {
        process.wait()?;
    }
    Ok(())
}

fn multiply(node: &Node, name: &str, number: usize) -> Result<(), Box<dyn Error>> {
    let meeting = node.region::<Meeting>(name).attach()?;
    let cells = cells_of(name);
    let matrices = node.region_bytes(&cells).attach()?;
    let second = (0..SIDE).map(|row| read_row(&matrices, 1, row)).collect::<Result<Vec<_>, _>>()?;
    for row in (number..SIDE).step_by(PROCESSES) {
        let first = read_row(&matrices, 0, row)?;
        let cell = |column| (0..SIDE).map(|index| first[index] * second[index][column]).sum();
        write_row(&matrices, 2, row, &std::array::from_fn(cell))?;
    }
    meeting.all_done.wait();
    Ok(())
}

/// The region that the matrices lie in, beside the one to meet at.
fn cells_of(name: &str) -> String {
    format!("{name}/cells")
}

fn offset(matrix: usize, row: usize) -> usize {
    matrix * MATRIX_BYTES + row * SIDE * 8
}

fn read_row(matrices: &ByteRegion, matrix: usize, row: usize) -> Result<Row, tidepost::RegionError> {
    let mut cells = [0; SIDE];
    matrices.read_at(offset(matrix, row), cells.as_mut_bytes())?;
    Ok(cells)
}

fn write_row(
    matrices: &ByteRegion,
    matrix: usize,
    row: usize,
    cells: &Row,
) -> Result<(), tidepost::RegionError> {
    matrices.write_at(offset(matrix, row), cells.as_bytes())
}
