//! Renders SVG to PNG, with DejaVu Sans for all text.

use std::sync::Arc;

use resvg::tiny_skia::{Pixmap, Transform};
use resvg::usvg::{Options, Tree, fontdb};

use crate::{Error, Result};

/// Pixels per unit of the SVG.
const SCALE: f32 = 2.0;

/// Renders the SVG as PNG, on its own background.
///
/// # Errors
/// If the SVG is invalid or too large.
pub(super) fn render(svg: &str) -> Result<Vec<u8>> {
    let failed = |message: String| Error::format("plot.png", message);
    let mut fonts = fontdb::Database::new();
    fonts.load_font_data(dejavu::sans::regular().to_vec());
    fonts.load_font_data(dejavu::sans::bold().to_vec());
    fonts.set_sans_serif_family("DejaVu Sans");
    let options = Options {
        fontdb: Arc::new(fonts),
        font_family: "DejaVu Sans".into(),
        ..Options::default()
    };
    let tree = Tree::from_str(svg, &options).map_err(|e| failed(e.to_string()))?;
    let size = tree.size();
    let [width, height] = [size.width(), size.height()].map(|side| (side * SCALE).ceil() as u32);
    let mut image = Pixmap::new(width, height)
        .ok_or_else(|| failed(format!("{width} × {height} pixels are too many")))?;
    resvg::render(&tree, Transform::from_scale(SCALE, SCALE), &mut image.as_mut());
    image.encode_png().map_err(|e| failed(e.to_string()))
}
