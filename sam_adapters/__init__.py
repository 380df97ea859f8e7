"""The core that the MONAI Label app and the federation share: model, prompts, adapters, registry, local tuning."""
