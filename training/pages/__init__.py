"""Pages that analysts read: one file each, in the look of `deesc_model.report`."""
