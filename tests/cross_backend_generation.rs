//! Generation on every backend gives the tokens of Hugging Face's `generate`.

use losparse::device::Backend;

use super::bart_generation::{cases, input, load, tokens};
use super::cross_backend::{has_tf32, on_every_other_backend};

#[test]
fn generated_tokens_agree_on_every_backend() {
    on_every_other_backend(|backend: Backend, device| {
        let (mut outputs, mut differing) = (0, Vec::new());
        for case in cases() {
            let beams = case.settings.num_beams.unwrap_or(1);
            if ![1, 3].contains(&beams) {
                continue;
            }
            let (model, defaults) = load(&case.model, device);
            let input = input(&case.input_ids, &case.attention_mask, device);
            let found = tokens(&model.generate(&input, &case.settings.or(&defaults)).unwrap());
            assert_eq!(found.len(), case.output_ids.len(), "{}", case.name);
            outputs += found.len();
            let pairs = found.into_iter().zip(case.output_ids).enumerate();
            let other = pairs.filter(|(_, (found, expected))| found != expected);
            differing.extend(other.map(|(at, _)| format!("{}, output {at}", case.name)));
        }
        assert!(outputs > 50, "{outputs} outputs");
        println!("{backend}: {} of {outputs} generated outputs differ", differing.len());
        // Rounding to 10 bits may swap scores that are close.
        let allowed = if has_tf32(backend) { outputs / 5 } else { 0 };
        assert!(differing.len() <= allowed, "{backend}: {}", differing.join("; "));
    });
}
