"""How a report is written: templates, charts, small pictures, and a folder that is there whole or not at all."""
