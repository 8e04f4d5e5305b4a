//! Images go to another process, which makes negatives of them, and come back. Nobody copies one: this process writes an image
//! where the other reads it, and the other writes the negative where this one reads it.
//!
//! The other process is this program, started a second time.

use std::error::Error;
use std::process::Command;
use std::time::{Duration, Instant};

use tidepost::Node;

/// Red, green, blue.
type Pixel = [u8; 3];

const IMAGES: usize = 3;
const PIXELS: usize = 1920 * 1080;
/// How long anything may take; what is not asked for so long, ends.
const PATIENCE: Duration = Duration::from_secs(10);

fn main() -> Result<(), Box<dyn Error>> {
    if let Some(service) = std::env::args().nth(1) {
        return serve(&service);
    }
    let service = format!("negative/{}", std::process::id());
    let mut server = Command::new(std::env::current_exe()?).arg(&service).spawn()?;
    let outcome = ask(&service);
    server.kill()?;
    server.wait()?;
    outcome
}

/// Makes a negative of each image that comes.
fn serve(service: &str) -> Result<(), Box<dyn Error>> {
    let node = Node::open("darkroom")?;
    let mut server = node.service::<[Pixel], [Pixel]>(service).server()?;
    while let Some(request) = server.recv_timeout(PATIENCE)? {
        let count = request.len();
        let mut answer = request.loan_slice(count)?;
        let (image, negative) = answer.both();
        for (from, to) in image.iter().zip(negative) {
            *to = from.map(|channel| !channel);
        }
        answer.send()?;
    }
    Ok(())
}

/// Sends images, and looks at what comes back.
fn ask(service: &str) -> Result<(), Box<dyn Error>> {
    let node = Node::open("camera")?;
    let mut client = node.service::<[Pixel], [Pixel]>(service).client()?;
    client.wait_for_servers(1, PATIENCE)?;
    for number in 0..IMAGES {
        let mut image = client.loan_slice(PIXELS, PATIENCE)?;
        for (place, pixel) in image.iter_mut().enumerate() {
            *pixel = colour(number, place);
        }
        let start = Instant::now();
        let negative = image.call(PATIENCE)?;
        let took = start.elapsed();
        for (place, pixel) in negative.iter().enumerate() {
            if *pixel != colour(number, place).map(|channel| !channel) {
                return Err(format!("pixel {place} of image {number} is wrong").into());
            }
        }
        println!("image {number}: all {} pixels came back as a negative, in {took:.1?}", negative.len());
    }
    Ok(())
}

/// The colour at a place of an image: something different each time.
fn colour(number: usize, place: usize) -> Pixel {
    let mixed = (number * PIXELS + place).wrapping_mul(0x9e37_79b9) >> 8;
    [mixed as u8, (mixed >> 8) as u8, (mixed >> 16) as u8]
}
