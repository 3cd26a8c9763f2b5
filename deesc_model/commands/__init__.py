"""The commands of `deesc`; `deesc_model.cli` puts them together."""
