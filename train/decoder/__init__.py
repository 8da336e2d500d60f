"""The waveform decoder (HiFi-GAN on GPT latents) as it is trained, and its fine-tuning."""
