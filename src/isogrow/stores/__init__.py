"""What a checkpoint is written with: mapped input, the files that travel along, all or nothing."""
