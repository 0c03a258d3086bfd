"""A run as one page of HTML that needs nothing but itself: `isogrow report RUN`."""

from isogrow.recipes.report.page import report as report
