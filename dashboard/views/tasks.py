from django.http import Http404

from dashboard.access import viewer_required


@viewer_required
def task(request, **kwargs):
    raise Http404
