"""Writing of an attached adapter for other libraries: as a merged model, or as a folder that PEFT loads."""
