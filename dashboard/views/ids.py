from django.http import Http404

from dashboard.access import viewer_required


@viewer_required
def find(request, **kwargs):
    raise Http404
