"""The report: one self-contained HTML page, and its figures as files, from run directories.

It reads tables and says what they say: it computes no metric and knows no model. The order of the files is the order
of the data: `data` (tables to plain views) → `emergence`, `heat_maps`, `distributions` (figures) → `findings`
(sentences and tables) → `page`. `theme` holds colours and the saving of figures.
"""
