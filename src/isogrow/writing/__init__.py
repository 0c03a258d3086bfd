"""What a checkpoint is written with: mapped input, slabs, the files that travel along, all or nothing."""
